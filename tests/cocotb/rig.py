# SPDX-License-Identifier: MIT
"""A device on its bench: link, agent, memory, scoreboard, and a small driver for each queue pair.

IOVAs are mapped one by one to scattered places in memory, as an IOMMU would have it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from random import Random
from typing import Any

from cocotb.triggers import ClockCycles

from emulator.iommu.space import AddressSpace
from emulator.nic import registers as r
from emulator.rtl.agent import Invalidation, TranslationAgent
from emulator.rtl.dut import Dut
from emulator.rtl.host import INTERRUPTS, HostMemory, RootComplex
from emulator.rtl.tlp import PAGE, AtsTlp, Kind
from tests.cocotb.checks import K14Data, Scoreboard
from tests.cocotb.coverage import Coverage
from tests.cocotb.pair import Pair

MEMORY = 1 << 24


def seed_of_run() -> int:
    """The seed of this run, from the command line."""
    return int(os.environ.get("RTL_SEED", "1"))


class Rig:
    """``queues`` queue pairs in service; ``space`` says what the device may reach.

    What is between the device and its host may be another: see :class:`tests.cocotb.pcie_rig`.
    """

    device_class = Dut

    def __init__(self, dut: Any, seed: int | None = None, queues: int = 1) -> None:
        self.seed = seed_of_run() if seed is None else seed
        self.rng = Random(self.seed)
        self.device = self.device_class(dut, queues)
        self.dut = dut
        self.space, self.memory = AddressSpace("nic"), HostMemory(MEMORY)
        self.link = self.device.link
        self.interrupts: list[int] = []
        self.connect()
        self.board = Scoreboard(self.link, self.agent, self.host)
        self.coverage = Coverage()
        self._pages = list(range(1, MEMORY // PAGE))
        self.rng.shuffle(self._pages)
        self.pairs = [Pair(self, queue) for queue in range(queues)]
        first = self.pairs[0]
        self.post_rx, self.post_tx = first.post_rx, first.post_tx
        self.received, self.sent, self.round_trip = first.received, first.sent, first.round_trip
        self._frames: list[bytes] = []
        _cover(self)
        dut._log.info("seed %d", self.seed)
        if os.environ.get("TLPS"):
            self.link.listeners.append(lambda tlp: dut._log.info("%s", tlp))

    def connect(self) -> None:
        """Builds agent and host."""
        self.agent = TranslationAgent(self.link, self.space, self.rng)
        self.host = RootComplex(self.link, self.agent, self.space, self.memory, self.rng)
        self.host.interrupt = lambda _, data: self.interrupts.append(data)

    # ------------------------------------------------------------------ start
    async def power_on(self) -> None:
        """Clock on, reset over."""
        await self.device.start()

    async def start(self, ats: bool = True, **wires: int) -> None:
        """Reset, rings mapped, the device in service."""
        await self.power_on()
        for pair in self.pairs:
            for iova in pair.rings:
                self.map(iova)
        await self.configure(bus_master=1, ats=int(ats), msix_enable=1, **wires)
        await self.bring_up()

    async def bring_up(self) -> None:
        """Rings, vectors and MAC, after a reset."""
        await self.program_vectors()
        for pair in self.pairs:
            await pair.bring_up()
        await self.device.write(r.DMABED_RX_FILTER, r.DMABED_RX_FILTER_PROMISC)
        await self.device.write(r.DMABED_MAX_FRAME, 9018)
        await self.device.write(r.DMABED_CTRL, r.DMABED_CTRL_ENABLE)

    async def program_vectors(self) -> None:
        """Vector ``n`` writes ``n``."""
        for vector in range(1 + len(self.pairs)):
            await self.device.program_vector(vector, INTERRUPTS, vector)

    async def apply(self, **wires: int) -> None:
        """Changes configuration space; returns when that is in force."""
        await self.device.configure(**wires)

    async def reset_function(self) -> None:
        """A function-level reset."""
        await self.device.function_level_reset()

    async def configure(self, **wires: int) -> None:
        """Configuration space changes; the scoreboard is told when that is in force."""
        if wires.get("bus_master") == 1:
            self.board.bus_master, self.board.in_reset = True, False
        if wires.get("ats") == 1:
            self.board.ats = True
        if "mps" in wires:
            self.board.mps = 128 << wires["mps"]
        if "mrrs" in wires:
            self.board.mrrs = 128 << wires["mrrs"]
        await self.apply(**wires)
        if wires.get("bus_master") == 0:
            self.board.bus_master = False
        if wires.get("ats") == 0:
            self.board.ats = False

    async def flr(self) -> None:
        """A function-level reset."""
        await self.reset_function()
        self.board.reset()
        self.coverage.hit("function-level reset")

    async def cycles(self, count: int) -> None:
        """Lets the clock run."""
        await ClockCycles(self.dut.clk, count)

    # ------------------------------------------------------------------ memory
    def map(self, iova: int, pages: int = 1, readable: bool = True, writable: bool = True) -> None:
        """Maps each page of the range to a page of memory of its own."""
        for page in range(pages):
            at = self._pages.pop() * PAGE
            self.space.map(iova + page * PAGE, PAGE, self.memory, at, readable, writable, 0)

    def map_block(self, iova: int, size: int) -> None:
        """Maps the range to one aligned block of memory, as one mapping."""
        first = (
            max(p for p in self._pages if p * PAGE % size == 0 and p * PAGE + size <= MEMORY) * PAGE
        )
        self._pages = [p for p in self._pages if not first <= p * PAGE < first + size]
        self.space.map(iova, size, self.memory, first, True, True, 0)

    async def unmap(self, iova: int, size: int = PAGE) -> Invalidation:
        """Takes the range from the device, by rule R-13; its memory is scrambled afterwards."""
        gone = self.space.unmap(iova, size, 0)
        inv = await self.agent.invalidate(iova, size)
        for mapping in gone:
            self.memory.array[mapping.offset : mapping.offset + mapping.size] = 0xEE
        return inv

    def poke(self, iova: int, data: bytes) -> None:
        """The CPU writes where the device would see ``iova``."""
        done = 0
        for piece in self.space.split(iova, len(data), False) or ():
            part = data[done : done + piece.length]
            self.memory.array[piece.offset : piece.offset + piece.length] = list(part)
            done += piece.length

    def peek(self, iova: int, length: int) -> bytes:
        """The CPU reads it."""
        pieces = self.space.split(iova, length, False) or ()
        return b"".join(self.memory.array[p.offset : p.offset + p.length].tobytes() for p in pieces)

    # ------------------------------------------------------------------ frames
    async def wire(self, frame: bytes, queue: int = 0) -> None:
        """A frame arrives, and was steered to ``queue``."""
        await self.device.mac.send(frame, queue=queue)

    async def sent_frame(self, wanted: bytes | None = None, limit: int = 2000) -> bytes:
        """The next good frame on the wire; of several queue pairs, the one that is ``wanted``."""
        for _ in range(limit):
            while (frame := self.device.mac.receive_nowait()) is not None:
                self._frames.append(frame)
            if wanted in self._frames:
                self._frames.remove(wanted)
                return wanted
            if self._frames and len(self.pairs) == 1:
                return self._frames.pop(0)
            await self.cycles(4)
        raise TimeoutError(f"no such frame on the wire; {self.state()}")

    def state(self) -> str:
        """For a test that waits in vain."""
        return f"{dict(self.board.kinds)}, {self.board.findings[:3]}"

    def bytes(self, length: int) -> bytes:
        """Random bytes."""
        return self.rng.randbytes(length)

    def check_data(self) -> K14Data:
        """The judge of data."""
        check = self.board.check("K14")
        assert isinstance(check, K14Data)
        return check

    # ------------------------------------------------------------------ end
    async def settle(self, cycles: int = 3000) -> None:
        """Waits until every invalidate is answered, or ``cycles`` have gone."""
        for _ in range(cycles // 10):
            if not self.agent.pending:
                return
            await self.cycles(10)

    def finish(self) -> None:
        """Ends the test: the findings, if any, are its failure."""
        findings = self.board.finish()
        folder = Path(os.environ.get("RTL_OUT", "."))
        name = sys._getframe(1).f_code.co_name
        self.coverage.save(folder / f"coverage-{name}-{self.seed}.json")
        names = sorted({finding.name for finding in findings})
        text = "; ".join(f"{f.name}: {f.text}" for f in findings[:5])
        assert not findings, f"checks that found something: {' '.join(names)}. {text}"


def _cover(rig: Rig) -> None:
    """Connects the coverage to what happens on ``rig``."""
    hit, board, agent = rig.coverage.hit, rig.board, rig.agent

    def sent(tlp: AtsTlp) -> None:
        rig.coverage.request(tlp)
        if tlp.kind is Kind.TRANSLATION:
            hit("miss: asked")
        elif tlp.kind is Kind.INV_CPL:
            if tlp.itags & (tlp.itags - 1):
                hit("invalidate: several in one completion")
        elif tlp.translated:
            hit("hit: translated")
        elif not INTERRUPTS <= tlp.addr < INTERRUPTS + PAGE:
            hit("untranslated: fallback or U" if board.ats else "untranslated: ATS off")

    def issued(inv: Invalidation) -> None:
        stale = [g for _, g, iova in board.reads.values() if g and inv.hits(iova & -PAGE, g.pasid)]
        hit("invalidate: hits read in flight" if stale else "invalidate: hits nothing")

    rig.link.listeners.append(sent)
    agent.on_issue.append(issued)
    agent.on_outcome = hit
