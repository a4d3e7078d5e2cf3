# SPDX-License-Identifier: MIT
"""RTL as a PCI device: any design with AXI4-Lite registers and the TLP streams, in a guest.

The vfio-user server runs in a thread of the cocotb process. Each of its calls into the device
blocks that thread while the simulator runs the bus transaction; in between, simulated time stands
still. Requests of the design go through the device's DMA port, so the guest's IOMMU mappings and
the ledger judge each of them. Interrupts are memory writes to :data:`INTERRUPTS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from cocotb.task import resume
from cocotb.triggers import ClockCycles
from cocotbext.pcie.core.tlp import CplStatus

from emulator.iommu.dma import SpaceDma
from emulator.pci.device import PciDevice
from emulator.ports import DmaFault, DmaPort, IrqPort, Observer
from emulator.rtl.ats_host import AtsHost
from emulator.rtl.host import INTERRUPTS, INTERRUPTS_END
from emulator.rtl.link import Handle, Link
from emulator.rtl.tlp import AtsTlp, Kind, completion

QUIET_CYCLES = 128
"""A design that sent nothing for so long has no more work, unless it is touched."""
BUDGET_CYCLES = 4000
"""The simulator runs at most so long before the guest's next message is looked at."""
READ_CYCLES = 8
WORD = 4


class RtlDut(Protocol):
    """What a design's bus wrapper offers."""

    dut: Handle
    link: Link

    async def read(self, offset: int) -> int:
        """A 32-bit register."""
        ...

    async def write(self, offset: int, value: int) -> None:
        """Writes a 32-bit register."""
        ...

    async def configure(self, **wires: int) -> None:
        """Changes ``cfg_`` inputs."""
        ...

    async def function_level_reset(self) -> None:
        """As the name says."""
        ...

    async def program_vector(self, vector: int, address: int, data: int) -> None:
        """Says what an interrupt writes, and where."""
        ...


class Figures:
    """What a run cost. slowest_s: the longest the guest's next message waited for the simulator."""

    def __init__(self) -> None:
        self.reads = self.writes = self.steps = self.interrupts = 0
        self.read_s = self.simulated_s = self.slowest_s = 0.0
        self.cycles = 0


class RtlDevice(PciDevice):
    """``design`` behind a PCI function; subclass it for what identifies the function.

    has_tlb: it speaks ATS, which is enabled whenever the function is not in reset: no guest can,
    for QEMU shows it none. top, files: what to build, for who builds it. open: its reads and
    translation requests without an answer, by tag. seed: of the delays of translations.
    """

    reads_matter = False
    quiet_cycles = QUIET_CYCLES
    ats: AtsHost | None = None
    seed = 1
    top: str = ""
    files: Sequence[Path] = ()

    def __init__(self, design: RtlDut) -> None:
        self.design = design
        self.figures = Figures()
        self.refused = 0
        self.open: dict[int, AtsTlp] = {}
        self.last = "none"
        design.link.sent_listeners.append(self._answered)
        design.link.listeners.append(self._request)
        self._read, self._write = resume(design.read), resume(design.write)
        self._configure, self._flr = resume(design.configure), resume(self._reset)
        self._run = resume(self._until_quiet)
        self._arm = resume(self._program)
        self._invalidate = resume(self._end)

    # ------------------------------------------------------------------ PciDevice
    def attach(self, dma: DmaPort, irq: IrqPort, observer: Observer) -> None:
        """Connects the ports and programs the vectors: vector ``n`` writes ``n``."""
        super().attach(dma, irq, observer)
        if self.has_tlb:
            assert isinstance(dma, SpaceDma), "ATS needs the address space itself"
            self.ats = AtsHost(self.design.link, dma, self.seed)
        self._arm()

    def mmio_read(self, bar: int, offset: int, size: int) -> int:
        """A bus read a word; what is not of whole words reads 0."""
        if size < WORD:
            return 0
        begin = time.perf_counter()
        value = 0
        for at in range(0, size, WORD):
            value |= self._read(offset + at) << 8 * at
        self.figures.reads += 1
        self.figures.read_s += time.perf_counter() - begin
        self._note(begin, f"read of {offset:#x}: {value:#x}")
        return value

    def mmio_write(self, bar: int, offset: int, value: int, size: int, now_ns: int) -> None:
        """A bus write a word."""
        begin = time.perf_counter()
        for at in range(0, size if size >= WORD else 0, WORD):
            self._write(offset + at, value >> 8 * at & 0xFFFF_FFFF)
        self.figures.writes += 1
        self._note(begin, f"write of {value:#x} to {offset:#x}")

    def _note(self, begin: float, what: str = "") -> None:
        """Keeps the slowest of what a guest may wait for, and its last register access."""
        spent = time.perf_counter() - begin
        self.figures.slowest_s = max(self.figures.slowest_s, spent)
        self.last = what or self.last

    def reset(self, now_ns: int) -> None:
        """A function-level reset of the design."""
        self._flr()

    def bus_master(self, on: bool, now_ns: int) -> None:
        """Told to the design; returns when no request is under way that it forbids."""
        self._configure(bus_master=int(on))

    def invalidate(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Returns when the design has completed the invalidates. Raises: AgentError."""
        begin = time.perf_counter()
        self._invalidate(ranges)
        self._note(begin)

    def step(self, now_ns: int) -> int | None:
        """Runs the simulator until the design is quiet, or its budget is spent."""
        return now_ns if self._advance() else None

    def _advance(self) -> bool:
        """True: the design may have more to do."""
        begin, cycle = time.perf_counter(), self.design.link.cycle
        more: bool = self._run()
        self.figures.steps += 1
        self.figures.simulated_s += time.perf_counter() - begin
        self.figures.cycles += self.design.link.cycle - cycle
        self._note(begin)
        return more

    # ------------------------------------------------------------------ in the simulator
    async def _program(self) -> None:
        await self.design.configure(msix_enable=1, **({"ats": 1} if self.ats else {}))
        for vector in range(self.msix_vectors):
            await self.design.program_vector(vector, INTERRUPTS, vector)

    async def _reset(self) -> None:
        await self.design.function_level_reset()
        self.open.clear()
        if self.ats is not None:
            self.ats.agent.device_reset()
        await self._program()

    async def _end(self, ranges: Sequence[tuple[int, int]]) -> None:
        assert self.ats is not None
        await self.ats.invalidate(self.design.dut.clk, ranges)

    async def _until_quiet(self) -> bool:
        link, spent = self.design.link, 0
        while spent < BUDGET_CYCLES:
            before = link.count
            await ClockCycles(self.design.dut.clk, self.quiet_cycles)
            spent += self.quiet_cycles
            if link.count == before and not (link.backlog or self.open or self.busy()):
                return False
        return True

    def busy(self) -> bool:
        """Whether something besides requests is under way; for subclasses."""
        return False

    def writing(self, iova: int, data: bytes) -> None:
        """The design is about to write; for subclasses."""

    def has_read(self, iova: int, data: bytes) -> None:
        """The design has read; for subclasses."""

    def _request(self, tlp: AtsTlp) -> None:
        if tlp.kind in (Kind.READ, Kind.TRANSLATION):
            self.open[tlp.tag] = tlp
        if self.ats is not None and self.ats.take(tlp):
            return
        if tlp.kind is Kind.READ:
            self._do_read(tlp)
        elif not tlp.translated and INTERRUPTS <= tlp.addr < INTERRUPTS_END:
            self.figures.interrupts += 1
            self.irq.raise_vector(int.from_bytes(tlp.payload, "little"))
        elif tlp.kind is Kind.WRITE:
            self.writing(self._iova_of(tlp), tlp.payload)
            if tlp.translated and self.ats is not None:
                self.ats.write(tlp)
            else:
                self._guarded(lambda: self.dma.write(tlp.addr, tlp.payload))

    def _iova_of(self, tlp: AtsTlp) -> int:
        return self.ats.iova_of(tlp) if tlp.translated and self.ats is not None else tlp.addr

    def _do_read(self, tlp: AtsTlp) -> None:
        if tlp.translated and self.ats is not None:
            data: bytes | None = self.ats.read(tlp)
        else:
            data = self._guarded(lambda: self.dma.read(tlp.addr, tlp.size))
        if data is not None:
            self.has_read(self._iova_of(tlp), data)
        status = CplStatus.UR if data is None else CplStatus.SC
        answer = completion(tlp, data or b"", len(data or b"    "), status)
        self.design.link.after(READ_CYCLES, lambda: self.design.link.send(answer))

    def _answered(self, tlp: AtsTlp) -> None:
        """The design has taken a completion; with the last one its tag is free."""
        if tlp.is_completion() and (tlp.status or tlp.byte_count <= tlp.length * 4):
            self.open.pop(tlp.tag, None)

    def _guarded(self, access: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return access()
        except DmaFault:
            self.refused += 1
            return None
