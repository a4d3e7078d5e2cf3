# SPDX-License-Identifier: MIT
"""A host for the Python driver with the RTL behind it: MMIO, DMA API and interrupts are real.

The driver is written for hosts that never wait, so it runs in a thread of its own, and each call
into the simulation blocks that thread. Simulated time stands still while the driver computes. An
unmap returns when the device has completed the invalidation, as a strict IOMMU has it.
"""

from __future__ import annotations

from random import Random
from typing import Any

from cocotb.task import resume
from cocotb.triggers import ClockCycles
from numpy.typing import NDArray

from driver.model.dma import SpaceDmaApi
from driver.model.errors import DmaApiError, NoMemoryError
from driver.model.host import Coherent
from driver.model.memory import GuestMemory, HostPages
from emulator.iommu.space import AddressSpace
from emulator.ledger import Ledger
from emulator.rtl.agent import TranslationAgent
from emulator.rtl.dut import Dut
from emulator.rtl.host import INTERRUPTS, NS_PER_CYCLE, RootComplex
from emulator.rtl.ring_monitor import RingMonitor
from pool.buffers import PAGE_SHIFT, PAGE_SIZE
from pool.interface import Direction
from tests.cocotb.checks import Scoreboard

QUIET_CYCLES = 1500


class RtlDmaApi(SpaceDmaApi):
    """The DMA API of the bench, with an ATS invalidation in every unmap."""

    def attach(self, invalidate: Any) -> None:
        """``invalidate(iova, size)`` blocks until the device has completed it."""
        self._invalidate = invalidate

    def unmap_range(self, iova: int, pages: int) -> None:
        """As the base class, by rule R-13: page table, then device TLB, then the memory is free."""
        size = pages << PAGE_SHIFT
        assert self._ledger is not None
        self._ledger.unmap_requested(self._clock(), iova, size)
        removed = self._space.unmap(iova, size, self._clock())
        self._invalidate(iova, size)
        self._ledger.unmapped(self._clock(), removed)
        if not removed:
            raise DmaApiError(f"unmap of {iova:#x}+{size:#x}: not mapped")
        self._iovas.free(iova, pages)


class RtlHost:
    """The driver's :class:`~driver.model.host.Host` over the RTL in the simulator."""

    def __init__(self, dut: Any, seed: int, pages: int = 4096, queues: int = 1) -> None:
        rng = Random(seed)
        self.dut, self.device = dut, Dut(dut, queues)
        self._memory = GuestMemory(pages)
        self.pages = HostPages(self._memory, 256)
        self.space = AddressSpace("rtl")
        self.ledger = Ledger(lambda: self.now_ns)
        device = self.ledger.device("rtl")
        link = self.device.link
        self.agent = TranslationAgent(link, self.space, rng)
        self.root = RootComplex(link, self.agent, self.space, self._memory, rng, device)
        self.board = Scoreboard(link, self.agent, self.root)
        self.board.ats = True
        self.monitor = RingMonitor(device, lambda: self.now_ns, queues)
        self.root.on_read.append(lambda tlp, iova, data: self.monitor.fetched(iova, data))
        self.root.on_write.append(lambda tlp, iova: self.monitor.completing(iova, tlp.payload))
        self._device_ledger = device
        self.dma = RtlDmaApi(self.space, self._memory, device, 0, lambda: self.now_ns)
        self.dma.attach(resume(self._invalidate))
        self._pending: set[int] = set()
        self.root.interrupt = lambda _, data: self._pending.add(data)
        self._read, self._write = resume(self.device.read), resume(self.device.write)
        self._bus_master, self._wait = resume(self._set_bus_master), resume(self._interrupt)
        self._sleep = resume(self._cycles)

    async def start(self) -> None:
        """Power on: ATS enabled by the host, bus mastering not."""
        await self.device.start()
        await self.device.configure(ats=1, msix_enable=1)
        for vector in range(1 + self.device.queues):
            await self.device.program_vector(vector, INTERRUPTS, vector)

    # ------------------------------------------------------------------ in the simulation
    async def _invalidate(self, iova: int, size: int) -> None:
        at = iova
        while at < iova + size:
            block = min(at & -at if at else size, 1 << (iova + size - at).bit_length() - 1)
            await self.agent.invalidate(at, block)
            at += block

    async def _set_bus_master(self, enable: bool) -> None:
        if enable:
            self.root.gate.set(True, "")
            self._device_ledger.gate_changed(self.now_ns, True, "")
            self.board.bus_master = True
        await self.device.configure(bus_master=int(enable))
        if not enable:
            self.board.bus_master = False
            self.root.gate.set(False, "bus mastering is off")
            self._device_ledger.gate_changed(self.now_ns, False, "bus mastering is off")

    async def _interrupt(self) -> int | None:
        quiet, count = 0, self.device.link.count
        while not self._pending:
            await self._cycles(20)
            quiet = quiet + 20 if self.device.link.count == count else 0
            count = self.device.link.count
            if quiet >= QUIET_CYCLES:
                return None
        vector = min(self._pending)
        self._pending.discard(vector)
        return vector

    async def _cycles(self, count: int) -> None:
        await ClockCycles(self.dut.clk, count)

    # ------------------------------------------------------------------ Host (driver's thread)
    @property
    def memory(self) -> NDArray[Any]:
        return self._memory.array

    @property
    def now_ns(self) -> int:
        return self.device.link.cycle * NS_PER_CYCLE

    async def mmio_read32(self, offset: int) -> int:
        value = self._read(offset)
        self.monitor.read(offset, value)
        return value

    async def mmio_write32(self, offset: int, value: int) -> None:
        self.monitor.written(offset, value)
        self._write(offset, value)

    async def dma_alloc_coherent(self, size: int) -> Coherent:
        count = -(-size // PAGE_SIZE)
        pfn = self.pages.alloc_block(count)
        iova = None if pfn is None else self.dma.map_range(pfn, count, Direction.BIDIRECTIONAL)
        if pfn is None or iova is None:
            raise NoMemoryError(f"no {count} pages in a row, or no IOVA for them")
        view = self._memory.view(pfn, size)
        view[:] = 0
        return Coherent(view, iova, pfn)

    async def dma_free_coherent(self, block: Coherent) -> None:
        count = -(-block.size // PAGE_SIZE)
        self.dma.unmap_range(block.iova, count)
        self.pages.free_block(block.pfn, count)

    async def dma_rmb(self) -> None:
        pass

    async def set_bus_master(self, enable: bool) -> None:
        self._bus_master(enable)

    async def wait_interrupt(self) -> int | None:
        return self._wait()

    async def sleep_ns(self, duration_ns: int) -> None:
        self._sleep(max(1, duration_ns // NS_PER_CYCLE))
