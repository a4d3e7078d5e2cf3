# SPDX-License-Identifier: MIT
"""O-5: a receive buffer has one owner."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import OFFSET_MASK, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from emulator.ledger.facts import Fact, Freed, GuestSettled, Held, TraceBegan
from emulator.ledger.held import RETURNED, RingEvent, RingHistory
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState
from emulator.ports import RingKind


class DoublePostRule(Rule):
    """No receive buffer is posted while the device owns it or while the stack reads it.

    Buffers larger than half a page are told apart by their pages, which costs next to nothing;
    smaller ones, of which several share a page, by their first bytes, and so are all from the
    first on that lies across two pages: its neighbour has the rest of them.

    What the stack reads is told at once by a driver in this process, and late, on a clock with an
    error, by a guest that traces: then posts are remembered, and judged when the guest says that
    the stack let the buffer go. A post counts only if that was later by more than the error.
    """

    number = "O-5"
    title = "no receive buffer is posted twice, or while the stack reads it"
    speaks = "at the posting; if a guest's trace tells what the stack reads, when it let go of it"
    needs = frozenset({Signal.RING})
    helps = MappingProxyType({Signal.STACK: "buffers posted while the stack reads them"})
    facts = (Held, Freed, TraceBegan, GuestSettled)

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self._small: dict[int, set[int]] = {}
        self._carved = False
        self._held: dict[int, int] = {}
        self._late = False
        self._history = RingHistory()

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
        if self._late:
            self._history.add(now_ns, queue, self._places(iovas))
        elif self._held:
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
        """Small buffers are the driver's again; any may be the stack's soon."""
        if self._late and kind is RingKind.RX_DESC:
            self._history.add(now_ns, RETURNED, self._places(iovas))
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
        """The stack took buffers, or is done with them; or how that will be told changes."""
        if isinstance(fact, TraceBegan):
            self._late = fact.stack
            self._held.clear()
            self._history.clear()
        elif isinstance(fact, GuestSettled):
            self._let_go(now_ns, tuple(self._held))
        elif isinstance(fact, Held):
            self._held.update(dict.fromkeys(fact.places, now_ns))
        elif isinstance(fact, Freed):
            self._let_go(now_ns, fact.places)

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

    def _let_go(self, now_ns: int, places: tuple[int, ...]) -> None:
        """The stack had them until now, as far as is known; a gap may hide that it had not."""
        error_ns = self.state.clock_error_ns
        for place in places:
            held_ns = self._held.pop(place, None)
            if held_ns is None or not self._late or self.state.trace_lost:
                continue
            until_ns = now_ns - error_ns
            for event in self._history.posted_within(place, held_ns + error_ns, until_ns):
                self._speak_late(event, place, held_ns, now_ns)

    def _places(self, iovas: NDArray[np.uint64]) -> list[tuple[int, int]]:
        """(place, IOVA) of those that are mapped."""
        found = [(self.state.live.target(iova), iova) for iova in iovas.tolist()]
        return [(place, iova) for place, iova in found if place is not None]

    def _speak_late(self, event: RingEvent, place: int, held_ns: int, freed_ns: int) -> None:
        cause = (
            f"a buffer at {place & OFFSET_MASK:#x} of memory was posted on queue {event.queue} "
            f"while the stack read the frame it got there, until {freed_ns / 1e9:.9f} s; the guest "
            f"traced it from {held_ns / 1e9:.9f} s on (clocks agree within "
            f"{self.state.clock_error_ns} ns; driver bug)"
        )
        self.report(event.time_ns, cause, event.iova, 1)

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
