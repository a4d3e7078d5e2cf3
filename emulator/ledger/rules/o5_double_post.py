# SPDX-License-Identifier: MIT
"""O-5: a receive buffer has one owner."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from emulator.ledger.facts import Fact, Freed, Held
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState
from emulator.ports import RingKind


class DoublePostRule(Rule):
    """No receive buffer is posted while the device owns it or while the stack reads it.

    Buffers larger than half a page are told apart by their pages, which costs next to nothing;
    smaller ones, of which several share a page, by their first bytes, and so are all from the
    first on that lies across two pages: its neighbour has the rest of them.
    """

    number = "O-5"
    title = "no receive buffer is posted twice, or while the stack reads it"
    speaks = "at the posting"
    needs = frozenset({Signal.RING})
    helps = MappingProxyType({Signal.STACK: "buffers posted while the stack reads them"})
    facts = (Held, Freed)

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self._small: dict[int, set[int]] = {}
        self._carved = False
        self._held: dict[int, int] = {}

    def posted(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Looks for each buffer among those that are somebody's already."""
        if kind is not RingKind.RX_DESC or not len(iovas):
            return
        if self._held:
            self._judge_held(now_ns, queue, iovas.tolist())
        ends = (iovas.view(np.int64) & PAGE_MASK) + lengths
        self._carved |= int(ends.max()) > PAGE_SIZE
        if self._carved or int(lengths.max()) * 2 <= PAGE_SIZE:
            self._judge_small(now_ns, queue, iovas.tolist())
        else:
            owned = self.state.owns_any(iovas, lengths, kind)
            self._judge_pages(now_ns, queue, self.state.pages_of(iovas, lengths), owned)

    def returned(
        self,
        now_ns: int,
        queue: int,
        kind: RingKind,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Small buffers are the driver's again."""
        if self._small and kind is RingKind.RX_DESC:
            self._small.get(queue, set()).difference_update(iovas.tolist())

    def ring_stopped(self, now_ns: int, queue: int, kind: RingKind) -> None:
        """And so are all of a ring that stopped."""
        if kind is RingKind.RX_DESC:
            self._small.pop(queue, None)

    def reset(self, now_ns: int) -> None:
        """All of them."""
        self._small.clear()
        self._carved = False

    def told(self, now_ns: int, fact: Fact) -> None:
        """The stack took buffers, or is done with them."""
        if isinstance(fact, Held):
            self._held.update(dict.fromkeys(fact.places, now_ns))
        elif isinstance(fact, Freed):
            for place in fact.places:
                self._held.pop(place, None)

    def _judge_pages(self, now_ns: int, queue: int, pages: list[int], owned: bool) -> None:
        if not owned and len(set(pages)) == len(pages):
            return
        taken = set(self.state.owned_among(pages, RingKind.RX_DESC))
        for page in pages:
            if page in taken:
                self._speak(now_ns, queue, page << PAGE_SHIFT, PAGE_SIZE)
            taken.add(page)

    def _judge_small(self, now_ns: int, queue: int, iovas: list[int]) -> None:
        for iova in iovas:
            if any(iova in owned for owned in self._small.values()):
                self._speak(now_ns, queue, iova, 1)
            self._small.setdefault(queue, set()).add(iova)

    def _judge_held(self, now_ns: int, queue: int, iovas: list[int]) -> None:
        for iova in iovas:
            place = self.state.live.target(iova)
            since_ns = None if place is None else self._held.get(place)
            if since_ns is not None:
                cause = (
                    f"a buffer was posted on queue {queue} while the stack reads the frame it got "
                    f"there at {since_ns / 1e9:.9f} s (driver bug)"
                )
                self.report(now_ns, cause, iova, 1)

    def _speak(self, now_ns: int, queue: int, iova: int, size: int) -> None:
        cause = (
            f"a buffer was posted on queue {queue} while the device owned it already: two frames "
            "will be written over each other (driver bug)"
        )
        self.report(now_ns, cause, iova, size)
