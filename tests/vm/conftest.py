# SPDX-License-Identifier: MIT
"""Fixtures for tests that boot guests.

Coroutines are driven by the `runner` fixture: `runner.run(guest.run("uname"))`.
"""

import asyncio
import functools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vm.artifacts import Artifacts, setup
from vm.checkers import checkers_of
from vm.guest import Guest
from vm.machine import GuestConfig, Iommu
from vm.snapshot import Snapshot, save


@pytest.fixture(scope="session")
def artifacts() -> Artifacts:
    """QEMU, kernel, agent and the rest, set up if missing."""
    return setup(print)


@pytest.fixture(scope="session")
def unchecked(artifacts: Artifacts) -> None:
    """For what a kernel with checkers hides: what a packet costs it, how soon it does a thing."""
    found = checkers_of(artifacts.kernel)
    if found:
        pytest.skip(f"the kernel spends its time on {', '.join(sorted(found))}: leave KDIR= out")


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs a test's coroutines on one event loop."""
    with asyncio.Runner() as loop:
        yield loop


@dataclass(frozen=True)
class SavedGuest:
    """A guest booted and saved once per session, with the warnings of its boot."""

    snapshot: Snapshot
    warnings: list[str]


MARK = "/tmp/mark-of-the-saved-guest"


@pytest.fixture(scope="session")
def saved_guests(
    artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Iommu], SavedGuest]]:
    """Gives the saved guest with an IOMMU and one free port; the first asker waits for its boot."""
    folder = tmp_path_factory.mktemp("saved")

    async def boot_and_save(iommu: Iommu) -> SavedGuest:
        config = GuestConfig(iommu=iommu, free_ports=1)
        async with Guest(artifacts, config) as guest:
            await guest.run(f"touch {MARK}")
            await save(guest, folder / iommu)
            return SavedGuest(Snapshot(folder / iommu, config), guest.kernel_warnings())

    yield functools.cache(lambda iommu: asyncio.run(boot_and_save(iommu)))
    shutil.rmtree(folder)


@pytest.fixture
def plain_snapshot(saved_guests: Callable[[Iommu], SavedGuest]) -> Snapshot:
    """The saved guest with intel-iommu."""
    return saved_guests("intel-strict").snapshot


@pytest.fixture
def guest(
    artifacts: Artifacts, plain_snapshot: Snapshot, runner: asyncio.Runner, tmp_path: Path
) -> Iterator[Guest]:
    """A fresh guest, restored from the saved one; its console is logged in the test's folder."""
    restored = runner.run(plain_snapshot.restore(artifacts, log=tmp_path / "console.log"))
    yield restored
    runner.run(restored.stop())
