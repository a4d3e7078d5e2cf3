# SPDX-License-Identifier: MIT
"""A device on its socket: when it is stepped, when it wants to be, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from emulator.endpoint import Endpoint
from emulator.iommu.latency import Delay, LatencyModel
from emulator.ledger import Ledger, Policy
from emulator.pci.device import Bar, PciDevice
from emulator.seat import DeviceSeat
from emulator.vfio_user.messages import Command, PciRegion
from tests.support.vfio_user_client import VfioUserClient, map_payload, sealed_memfd

IOVA, PAGE = 0x100000, 4096
COMMAND, MEM = 4, 2


class Counting(PciDevice):
    """Remembers when it was stepped; wants to be again at ``due_ns``."""

    bars: ClassVar = {0: Bar(size=4096)}

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.due_ns: int | None = None

    def step(self, now_ns: int) -> int | None:
        self.steps.append(now_ns)
        return self.due_ns


class Bench:
    """A seat whose clock the test turns, and a client in the same thread."""

    def __init__(self, path: Path) -> None:
        self.now_ns = 1_000
        self.device = Counting()
        self.ledger = Ledger(time.monotonic_ns, Policy(lazy=True))
        self.endpoint = Endpoint(self.device, "dut", self.ledger, LatencyModel())
        self.seat = DeviceSeat(self.endpoint, path, clock=lambda: self.now_ns)
        self.client = VfioUserClient.connect(path, pump=self.service)
        self.client.version()

    def service(self) -> bool:
        return self.seat.service(self.now_ns)

    def settle(self) -> None:
        """Services until nothing is left to do."""
        while self.service():
            pass

    def enable(self) -> None:
        self.client.region_write(PciRegion.CONFIG, COMMAND, MEM.to_bytes(2, "little"))
        self.settle()
        self.device.steps.clear()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "s")
    made.enable()
    yield made
    made.client.close()
    made.seat.close()


def test_device_is_stepped_once_when_the_seat_is_new(tmp_path: Path) -> None:
    made = Bench(tmp_path / "s")
    made.settle()
    assert len(made.device.steps) == 1
    made.client.close()
    made.seat.close()


def test_idle_device_is_not_stepped(bench: Bench) -> None:
    for _ in range(100):
        assert not bench.service()
        bench.now_ns += 1_000_000
    assert bench.device.steps == []
    assert bench.seat.next_due_ns() is None


def test_maps_and_unmaps_do_not_step_the_device(bench: Bench) -> None:
    bench.client.dma_map(IOVA, PAGE)
    bench.client.dma_unmap(IOVA, PAGE)
    bench.settle()
    assert bench.device.steps == []


def test_register_write_steps_the_device_in_the_same_round(bench: Bench) -> None:
    bench.client.send(Command.REGION_WRITE, bytes(8) + bytes(4) + b"\4\0\0\0" + bytes(4))
    assert bench.service()
    assert bench.device.steps == [bench.now_ns]


def test_device_is_stepped_when_its_timer_is_due_and_not_before(bench: Bench) -> None:
    bench.device.due_ns = due = bench.now_ns + 50_000
    bench.seat.wake()
    bench.settle()
    bench.device.steps.clear()
    assert bench.seat.next_due_ns() == due
    bench.now_ns = due - 1
    bench.service()
    assert bench.device.steps == []
    bench.now_ns = due
    bench.device.due_ns = None
    bench.service()
    assert bench.device.steps == [due]
    assert bench.seat.next_due_ns() is None


def test_device_with_more_to_do_keeps_the_loop_awake(bench: Bench) -> None:
    bench.device.due_ns = bench.now_ns
    bench.seat.wake()
    assert bench.service()
    assert bench.service()
    bench.device.due_ns = None
    assert not bench.service()


def test_wake_steps_a_device_that_nobody_touched(bench: Bench) -> None:
    bench.seat.wake()
    due = bench.seat.next_due_ns()
    assert due is not None and due <= bench.now_ns
    bench.service()
    assert bench.device.steps == [bench.now_ns]


def test_delayed_reply_is_waited_for_though_the_device_has_no_timer(bench: Bench) -> None:
    bench.endpoint.latency = LatencyModel("test", Delay(mean_ns=70_000))
    bench.client.send(Command.DMA_MAP, map_payload(IOVA, PAGE))
    bench.service()
    assert bench.seat.next_due_ns() == bench.now_ns + 70_000
    bench.device.due_ns = bench.now_ns + 20_000
    bench.seat.wake()
    bench.service()
    assert bench.seat.next_due_ns() == bench.now_ns + 20_000


def test_close_removes_the_socket_and_may_be_repeated(tmp_path: Path) -> None:
    made = Bench(tmp_path / "s")
    made.seat.close()
    made.client.wait_hangup()
    made.client.close()
    assert not (tmp_path / "s").exists()
    made.seat.close()


def test_close_ends_stale_windows_now_and_not_at_time_zero(tmp_path: Path) -> None:
    made = Bench(tmp_path / "s")
    fd = sealed_memfd(PAGE)
    made.client.dma_map(IOVA, PAGE, fd)
    before_ns = time.monotonic_ns()
    made.ledger.mark(before_ns, "released")
    made.seat.close()
    made.client.close()
    windows = made.ledger.devices["dut"].stale.windows
    assert windows.count == 1
    assert 0 < windows.longest_ns <= time.monotonic_ns() - before_ns
