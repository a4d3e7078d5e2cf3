# SPDX-License-Identifier: MIT
"""ATS for a design behind a guest: the guest's mappings are the page tables, its unmaps invalidate.

Translations are answered from the address space that DMA_MAP and DMA_UNMAP keep. An unmap first
takes the mapping from there, then sends the invalidates, and is answered to the client when the
design has completed them (rules R-13 and R-14): so what the guest frees is what the ledger judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import numpy as np
from cocotb.triggers import ClockCycles
from numpy.typing import NDArray

from emulator.iommu.dma import SpaceDma
from emulator.iommu.mapping import target_of
from emulator.rtl.agent import (
    EVERYTHING,
    GRANT_SHIFT,
    ITAGS,
    OFFSET_MASK,
    AgentError,
    Grant,
    Invalidation,
    TranslationAgent,
)
from emulator.rtl.link import Handle, Link
from emulator.rtl.tlp import PAGE, AtsTlp, Kind

LOOK_EVERY: Final = 16
INVALIDATE_CYCLES: Final = 100_000
"""A design that needs longer does not answer: rule R-12 gives a minute, of a simulation's time."""


def blocks(iova: int, size: int) -> list[tuple[int, int]]:
    """The range as aligned powers of two, each of 4 KiB at least: what one invalidate can name."""
    if size >= EVERYTHING:
        return [(0, EVERYTHING)]
    parts, end = [], iova + size
    while iova < end:
        block = 1 << (end - iova).bit_length() - 1
        if iova:
            block = min(block, iova & -iova)
        parts.append((iova, block))
        iova += block
    return parts


class AtsHost:
    """Translates for the design at ``link`` by the mappings of ``dma``; seed: of its delays.

    stale: translated requests whose translation an invalidate had ended before: always a bug.
    cycles: of each invalidate, from its issue to its completion.
    """

    def __init__(self, link: Link, dma: SpaceDma, seed: int = 1) -> None:
        self._link, self._dma = link, dma
        self.agent = TranslationAgent(link, dma.space, Random(seed))
        self.agent.manners.untranslated = self._has_no_file
        self.hits = self.stale = 0
        self.cycles: list[int] = []

    def _has_no_file(self, iova: int) -> bool:
        """Memory that only messages reach has no address of ours: U bit."""
        found = self._dma.space.find(iova)
        return found is not None and found.memory is None

    def take(self, tlp: AtsTlp) -> bool:
        """Answers a translation request, takes an invalidate completion; False: it is neither."""
        if tlp.kind is Kind.TRANSLATION:
            self.agent.request(tlp)
        elif tlp.kind is Kind.INV_CPL:
            for inv in self.agent.completed(tlp):
                self.cycles.append((inv.completed_cycle or 0) - inv.issued_cycle)
        else:
            return False
        return True

    # ------------------------------------------------------------------ translated requests
    def grant_of(self, tlp: AtsTlp) -> Grant:
        """The translation the request was made from.

        Raises:
            AgentError: there never was one.
        """
        grant = self.agent.grants.get(tlp.addr >> GRANT_SHIFT)
        if grant is None:
            raise AgentError(f"{tlp} uses an address that no translation gave")
        return grant

    def iova_of(self, tlp: AtsTlp) -> int:
        """The IOVA behind a translated request. Raises: AgentError."""
        return self.grant_of(tlp).iova_of(tlp.addr)

    def write(self, tlp: AtsTlp) -> None:
        """A translated write reaches memory. Raises: AgentError."""
        memory, at = self._place(tlp)
        memory[at : at + tlp.size] = np.frombuffer(tlp.payload, np.uint8)

    def read(self, tlp: AtsTlp) -> bytes:
        """What a translated read finds. Raises: AgentError."""
        memory, at = self._place(tlp)
        return memory[at : at + tlp.size].tobytes()

    def _place(self, tlp: AtsTlp) -> tuple[NDArray[np.uint8], int]:
        grant, at = self.grant_of(tlp), tlp.addr & OFFSET_MASK
        iova, memory = grant.iova_of(tlp.addr), grant.mapping.memory
        assert memory is not None
        self.hits += 1
        if any(inv.hits(iova & -PAGE, grant.pasid) for inv in grant.ended):
            self.stale += 1
        self._tell(iova, tlp, target_of(memory, at))
        return memory.array, at

    def _tell(self, iova: int, tlp: AtsTlp, target: int) -> None:
        """The ledger judges it as any other access: by what is mapped, and where it landed."""
        where, size = np.array([iova], np.uint64), np.array([tlp.size], np.int64)
        write, ok = tlp.kind is Kind.WRITE, np.ones(1, np.bool_)
        self._dma.log.accessed(self._dma.now_ns, where, size, write, ok, np.array([target]))

    # ------------------------------------------------------------------ invalidates
    async def invalidate(self, clock: Handle, ranges: Sequence[tuple[int, int]]) -> None:
        """Sends what ends ``ranges`` (IOVA, bytes) and waits for the completions.

        Raises:
            AgentError: the design did not complete one.
        """
        sent: list[Invalidation] = []
        for iova, size in (block for each in ranges for block in blocks(*each)):
            if len(self.agent.pending) == ITAGS:
                await self._completed(clock, sent)
            sent.append(self.agent.start_invalidate(iova, size))
        await self._completed(clock, sent)

    async def _completed(self, clock: Handle, sent: list[Invalidation]) -> None:
        for _ in range(0, INVALIDATE_CYCLES, LOOK_EVERY):
            if all(inv.completed or inv.reset for inv in sent):
                return
            await ClockCycles(clock, LOOK_EVERY)
        late = [f"ITag {i.itag}, {i.iova:#x}+{i.size:#x}" for i in sent if not i.completed]
        text = f"no completion within {INVALIDATE_CYCLES} cycles of invalidates {late}"
        raise AgentError(text)
