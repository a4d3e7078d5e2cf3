# SPDX-License-Identifier: MIT
"""The parts of the bench without a guest: the feeder of QEMU's NICs, and the socket's ping-pong."""

from __future__ import annotations

import dataclasses
import multiprocessing
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.frames import FrameBatch
from emulator.nic.wire.testframes import check
from emulator.vfio_user import messages as wire
from testbed.bench import pingpong
from testbed.bench.compare import kernel_flavour
from testbed.bench.feeder import Feeder, _connect
from testbed.scenario import BenchNic, load_scenario

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    """Stands for QEMU: bound to the path "theirs"."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(20)
        made.bind(str(tmp_path / "theirs"))
        yield made


def feeder(folder: Path, length: int = 60, seed: int = 3) -> Feeder:
    return Feeder(folder / "ours", folder / "theirs", length, seed)


@pytest.mark.parametrize("length", [60, 1514])
def test_fed_frames_are_intact_test_frames_in_order(
    tmp_path: Path, receiver: socket.socket, length: int
) -> None:
    with feeder(tmp_path, length):
        frames = FrameBatch.of([receiver.recv(9000) for _ in range(600)])
    seen = check(frames)
    assert seen.intact.all()
    assert set(frames.lengths.tolist()) == {length}
    assert set(seen.flows.tolist()) == {0, 1, 2, 3}
    for flow in range(4):
        sequences = seen.sequences[seen.flows == flow]
        assert (sequences == np.arange(len(sequences))).all(), "a frame was lost or overtaken"


def test_same_seed_feeds_the_same_frames(tmp_path: Path, receiver: socket.socket) -> None:
    taken = []
    for seed in (5, 5, 6):
        with feeder(tmp_path, seed=seed):
            taken.append([receiver.recv(9000) for _ in range(50)])
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            while receiver.recv(9000):
                pass
        receiver.settimeout(20)
    assert taken[0] == taken[1] != taken[2]


@pytest.mark.parametrize("before", ["nothing", "the socket of a QEMU that is gone"])
def test_receiver_that_is_bound_late_is_connected_to(tmp_path: Path, before: str) -> None:
    path = tmp_path / "theirs"
    if before != "nothing":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
            gone.bind(str(path))

    class BindsWhileWaiting:
        waits = 0

        def is_set(self) -> bool:
            assert self.waits < 3, "it does not see the receiver"
            return False

        def wait(self, timeout: float) -> None:
            self.waits += 1
            if self.waits == 2:
                path.unlink(missing_ok=True)
                late.bind(str(path))

    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late,
    ):
        stop: Any = BindsWhileWaiting()
        assert _connect(out, path, stop)
        out.send(b"frame")
        assert late.recv(10) == b"frame"


def test_feeder_stops_when_its_receiver_takes_no_more(
    tmp_path: Path, receiver: socket.socket
) -> None:
    with feeder(tmp_path) as fed:
        receiver.recv(9000)  # it sends; from here on nobody takes anything
    assert fed._process.exitcode == 0, "it had to be killed"
    assert not (tmp_path / "ours").exists()


def test_feeder_stops_when_nobody_ever_listens(tmp_path: Path) -> None:
    with feeder(tmp_path) as fed:
        pass
    assert fed._process.exitcode == 0, "it had to be killed"


def test_feeder_ends_with_its_receiver(tmp_path: Path, receiver: socket.socket) -> None:
    with feeder(tmp_path) as fed:
        receiver.recv(9000)
        receiver.close()
        fed._process.join(20)
        assert fed._process.exitcode == 0


# ---------------------------------------------------------------------- ping-pong
def test_ping_pong_sends_messages_of_the_sizes_that_are_on_the_wire() -> None:
    read = len(wire.encode(0, wire.Command.REGION_READ, wire.REGION_ACCESS.pack(0, 0, 4)))
    to_map = len(wire.encode(0, wire.Command.DMA_MAP, bytes(wire.DMA_MAP.size)))
    to_unmap = len(wire.encode(0, wire.Command.DMA_UNMAP, bytes(wire.DMA_UNMAP.size)))
    reply = len(wire.reply(0, wire.Command.DMA_MAP))
    assert pingpong.MESSAGES["register read"] == ((read, read + 4),)
    assert pingpong.MESSAGES["map + unmap"] == ((to_map, reply), (to_unmap, to_unmap))


@pytest.mark.parametrize("name", list(pingpong.MESSAGES))
def test_ping_pong_measures_and_leaves_no_process(name: str) -> None:
    before = set(multiprocessing.active_children())
    seen = pingpong.measure(name, rounds=200)
    assert seen.name == name
    assert 0 < seen.median_ns <= seen.p90_ns
    assert set(multiprocessing.active_children()) <= before


def test_unknown_exchange_starts_no_process() -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyError):
        pingpong.measure("write")
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize(
    ("nics", "flavour"), [(("virtio-net",), "cloud"), (("virtio-net", "igb"), "full")]
)
def test_full_kernel_is_fetched_only_for_nics_the_cloud_kernel_lacks(
    nics: tuple[BenchNic, ...], flavour: str
) -> None:
    plan = load_scenario("bench").bench
    assert plan is not None
    assert kernel_flavour(plan) == "full"
    assert kernel_flavour(dataclasses.replace(plan, nics=nics)) == flavour
