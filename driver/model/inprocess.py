# SPDX-License-Identifier: MIT
"""Host, IOMMU, ledger and NICs in one process, in virtual time: what the driver is tested on.

Every device has its own domain. Nothing waits: :func:`driver.model.host.run_to_completion` drives
the driver, and the NIC is stepped whenever the driver waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from driver.model.dma import IovaAllocator, SpaceDmaApi
from driver.model.errors import NoMemoryError
from driver.model.host import Coherent, run_to_completion
from driver.model.main import dmabed_run
from driver.model.memory import GuestMemory, HostPages
from driver.model.structs import Priv
from driver.model.updown import dmabed_watchdog
from driver.model.watchdog import TICK_NS
from emulator.faults.injector import Injector
from emulator.faults.ports import PlainMaps
from emulator.iommu.dma import DmaGate, SpaceDma
from emulator.iommu.space import AddressSpace
from emulator.ledger import DeviceLedger, Ledger
from emulator.ledger.facts import Interrupted
from emulator.nic.bus import NicBus
from emulator.nic.config import NicConfig
from emulator.nic.identity import FIRST_QUEUE_VECTOR
from emulator.nic.nic import Nic
from emulator.nic.wire.base import Wire
from emulator.ports import DmaPort, IrqPort, Observer
from pool.buffers import PAGE_SIZE
from pool.interface import Direction

STEP_NS = 5_000
"""Virtual time that passes with every step of a device."""
INTERRUPT_NS = 1_000
"""And with every interrupt, so that a device that storms cannot stop the clock."""
SLICE_NS = 100_000
"""How long one device runs before the next has its turn."""

WrapDma = Callable[[SpaceDma], DmaPort]


class Machine:
    """A host with ``pages`` pages of memory, a clock, a ledger, and devices.

    contiguous: pages set aside for rings.
    """

    def __init__(self, pages: int = 1 << 15, contiguous: int = 1 << 10) -> None:
        self.memory = GuestMemory(pages)
        self.pages = HostPages(self.memory, contiguous)
        self.now_ns = 0
        self.ledger = Ledger(lambda: self.now_ns)
        self.hosts: list[InProcessHost] = []

    def add_device(
        self,
        config: NicConfig,
        wire: Wire,
        *,
        name: str = "",
        wrap: WrapDma | None = None,
        faulty: bool = False,
    ) -> InProcessHost:
        """A NIC behind its own domain, link up; ``wrap`` puts a misbehaving port before it.

        faulty: it gets an ``injector``.
        """
        number = len(self.hosts)
        host = InProcessHost(self, name or f"nic{number}", number, config, wire, wrap, faulty)
        self.hosts.append(host)
        return host

    def advance(self, duration_ns: int) -> None:
        """Lets time pass without anybody doing anything."""
        self.now_ns += duration_ns

    def run(self, drivers: Sequence[Priv], until_ns: int | None = None) -> None:
        """Runs devices and drivers in turns until nothing is to be expected, or ``until_ns``."""
        busy = True
        while busy and (until_ns is None or self.now_ns < until_ns):
            busy, before_ns = False, self.now_ns
            for priv, host in zip(drivers, self._hosts_of(drivers), strict=True):
                host.horizon_ns = self.now_ns + SLICE_NS
                run_to_completion(dmabed_run(priv))
                busy |= host.busy
                host.horizon_ns = None
            if self.now_ns == before_ns:
                self._skip(self._hosts_of(drivers), until_ns)

    def _skip(self, hosts: Sequence[InProcessHost], until_ns: int | None) -> None:
        """Lets the time pass in which nothing happens."""
        due = [host.due_ns for host in hosts if host.due_ns is not None]
        wake_ns = min(due, default=self.now_ns)
        self.now_ns = max(self.now_ns, wake_ns if until_ns is None else min(wake_ns, until_ns))

    def run_timers(self, drivers: Sequence[Priv], until_ns: int) -> None:
        """Runs, and lets the drivers' timers fire, until ``until_ns``."""
        while self.now_ns < until_ns:
            self.run(drivers, min(until_ns, self.now_ns + TICK_NS))
            self.now_ns = min(until_ns, self.now_ns + TICK_NS)
            for priv in drivers:
                run_to_completion(dmabed_watchdog(priv))

    def _hosts_of(self, drivers: Sequence[Priv]) -> list[InProcessHost]:
        return [host for priv in drivers for host in self.hosts if priv.host is host]


class InProcessHost:
    """One device of a :class:`Machine`: the driver's :class:`~driver.model.host.Host`.

    horizon_ns: :meth:`wait_interrupt` gives up then, though more may come; None: never.
    absent: the device was pulled out: reads are all ones, writes are lost, no DMA.
    injector: makes the device misbehave; None if it was not built with one.
    """

    def __init__(
        self,
        machine: Machine,
        name: str,
        number: int,
        config: NicConfig,
        wire: Wire,
        wrap: WrapDma | None,
        faulty: bool = False,
    ) -> None:
        self.machine = self._machine = machine
        self.ledger: DeviceLedger = machine.ledger.device(name)
        self.space = AddressSpace(name)
        self.iovas = IovaAllocator()
        self.injector = self._make_injector() if faulty else None
        self.dma = SpaceDmaApi(
            self.space,
            machine.memory,
            self.ledger,
            number,
            lambda: machine.now_ns,
            self.iovas,
            lambda: self.injector.maps if self.injector else PlainMaps(),
            machine.advance,
        )
        self.gate = DmaGate()
        self._port = SpaceDma(self.space, self.ledger, self.gate)
        port = wrap(self._port) if wrap else self._port
        self.nic = self._make_nic(config, port, wire)
        self.nic.link(True, machine.now_ns)
        self.horizon_ns: int | None = None
        self.absent = False
        self._pending: set[int] = set()
        self._due_ns: int | None = None

    def _make_injector(self) -> Injector:
        ledger = self._machine.ledger
        others = ledger.devices
        return Injector(
            self.ledger, ledger.log, lambda: list(others.values()), self._machine.advance
        )

    def _make_nic(self, config: NicConfig, port: DmaPort, wire: Wire) -> NicBus:
        def build(dma: DmaPort, irq: IrqPort, observer: Observer) -> Nic:
            return Nic(config, dma, irq, wire, observer)

        if self.injector is None:
            return build(port, self, self.ledger)
        return self.injector.attach(build, port, self, self.ledger)

    # ------------------------------------------------------------ the device's side
    def raise_vector(self, vector: int) -> None:
        """See :class:`emulator.ports.IrqPort`."""
        queue = vector - FIRST_QUEUE_VECTOR if vector >= FIRST_QUEUE_VECTOR else None
        self.ledger.tell(self.now_ns, Interrupted(vector, queue))
        self._pending.add(vector)

    def link(self, up: bool) -> None:
        """Plugs the cable in or pulls it out."""
        self.nic.link(up, self.now_ns)
        self._due_ns = self.now_ns

    def touch(self) -> None:
        """The wire has something new: the device is stepped at the next opportunity."""
        self._due_ns = self.now_ns

    @property
    def due_ns(self) -> int | None:
        """When the device wants to be stepped."""
        return self._due_ns

    @property
    def busy(self) -> bool:
        """An interrupt waits, or the device has work."""
        return bool(self._pending) or self._due_ns is not None

    def _beyond_horizon(self, time_ns: int) -> bool:
        return self.horizon_ns is not None and time_ns > self.horizon_ns

    def _step(self) -> None:
        machine = self._machine
        machine.now_ns = max(machine.now_ns + STEP_NS, self._due_ns or 0)
        self._port.now_ns = machine.now_ns
        self._due_ns = None if self.absent else self.nic.step(machine.now_ns)

    # ------------------------------------------------------------ Host
    @property
    def pages(self) -> HostPages:
        """See :class:`~driver.model.host.Host`."""
        return self._machine.pages

    @property
    def memory(self) -> NDArray[np.uint8]:
        """See :class:`~driver.model.host.Host`."""
        return self._machine.memory.array

    @property
    def now_ns(self) -> int:
        """See :class:`~driver.model.host.Host`."""
        return self._machine.now_ns

    async def mmio_read32(self, offset: int) -> int:
        """See :class:`~driver.model.host.Host`."""
        return 0xFFFF_FFFF if self.absent else self.nic.mmio_read(offset, 4)

    async def mmio_write32(self, offset: int, value: int) -> None:
        """See :class:`~driver.model.host.Host`."""
        if self.absent:
            return
        self._port.now_ns = self.now_ns
        self.nic.mmio_write(offset, value, 4, self.now_ns)
        self._due_ns = self.now_ns

    async def dma_alloc_coherent(self, size: int) -> Coherent:
        """See :class:`~driver.model.host.Host`: one mapping for all pages."""
        count = -(-size // PAGE_SIZE)
        pfn = self.pages.alloc_block(count)
        if pfn is None:
            raise NoMemoryError(f"no {count} pages in a row for {size} bytes of rings")
        iova = self.dma.map_range(pfn, count, Direction.BIDIRECTIONAL)
        if iova is None:
            self.pages.free_block(pfn, count)
            raise NoMemoryError(f"no IOVA for {count} pages")
        view = self._machine.memory.view(pfn, size)
        view[:] = 0
        return Coherent(view, iova, pfn)

    async def dma_free_coherent(self, block: Coherent) -> None:
        """See :class:`~driver.model.host.Host`."""
        count = -(-block.size // PAGE_SIZE)
        self.dma.unmap_range(block.iova, count)
        self.pages.free_block(block.pfn, count)

    async def dma_rmb(self) -> None:
        """Nothing to do: there is one thread."""

    async def set_bus_master(self, enable: bool) -> None:
        """See :class:`~driver.model.host.Host`."""
        self.gate.set(enable, "" if enable else "bus mastering is off")
        self.ledger.gate_changed(self.now_ns, enable, self.gate.why)
        self.nic.bus_master(enable, self.now_ns)
        self._due_ns = self.now_ns

    async def wait_interrupt(self) -> int | None:
        """Steps the device until it interrupts or has nothing more to do."""
        if self._beyond_horizon(self.now_ns):
            return None
        while not self._pending:
            if self._due_ns is None or self._beyond_horizon(max(self._due_ns, self.now_ns)):
                return None
            self._step()
        vector = min(self._pending)
        self._pending.discard(vector)
        self._machine.now_ns += INTERRUPT_NS
        return vector

    async def sleep_ns(self, duration_ns: int) -> None:
        """See :class:`~driver.model.host.Host`."""
        wake_ns = self._machine.now_ns + duration_ns
        while self._due_ns is not None and self._due_ns <= wake_ns > self._machine.now_ns:
            self._step()
        self._machine.now_ns = max(self._machine.now_ns, wake_ns)
