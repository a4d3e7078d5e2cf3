# SPDX-License-Identifier: MIT
"""A served example device, a client that is connected to it, and a check for leaked descriptors."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.vfio_user.server import Server
from tests.support.vfio_user_client import VfioUserClient, sealed_memfd
from tests.support.vfio_user_device import ExampleDevice


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.fixture(autouse=True)
def no_leaked_descriptors() -> Iterator[None]:
    before = open_descriptors()
    yield
    if open_descriptors() > before:
        gc.collect()  # a mapping of guest memory holds a descriptor until its last array is gone
    assert open_descriptors() <= before


@pytest.fixture
def device(no_leaked_descriptors: None) -> Iterator[ExampleDevice]:
    example = ExampleDevice()
    yield example
    example.free()


@pytest.fixture
def server(device: ExampleDevice, tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "s", device) as served:
        yield served


@pytest.fixture
def raw_client(server: Server) -> Iterator[VfioUserClient]:
    """Connected, VERSION still to come."""
    with VfioUserClient.connect(
        server.path, pump=lambda: server.service(time.monotonic_ns())
    ) as connected:
        yield connected
    while server.connection is not None:
        server.service(time.monotonic_ns())


@pytest.fixture
def client(raw_client: VfioUserClient) -> VfioUserClient:
    raw_client.version()
    return raw_client


@pytest.fixture
def guest_fd(no_leaked_descriptors: None) -> Iterator[int]:
    fd = sealed_memfd(1 << 20)
    yield fd
    os.close(fd)
