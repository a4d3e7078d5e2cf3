# SPDX-License-Identifier: MIT
"""What the rings did with places in memory, kept until the guest's trace says who read them then.

A trace is told some tenths of a second late and by a clock that is a little off. What saves the
judgement is an order that no clock has a say in: a buffer that the stack holds was returned by the
device before the stack got it, and the driver may post it only after the stack let it go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

KEPT = 8
"""Events that are remembered of a place."""
PLACES_MAX = 1 << 16

RETURNED = -1


class RingEvent(NamedTuple):
    """The buffer was posted on ``queue`` at ``iova``, or is the device's no more (RETURNED).

    time_ns: of a post not before the driver made it, of a return not after the driver could see it.
    """

    time_ns: int
    queue: int
    iova: int


class RingHistory:
    """The newest events of each place (packed, see :func:`emulator.iommu.mapping.target_of`)."""

    def __init__(self) -> None:
        self._places: dict[int, list[RingEvent]] = {}

    def clear(self) -> None:
        """Nothing is known of what went before."""
        self._places.clear()

    def add(self, now_ns: int, queue: int, buffers: Iterable[tuple[int, int]]) -> None:
        """Buffers, (place, IOVA) each, were posted on ``queue``, or RETURNED."""
        places = self._places
        for place, iova in buffers:
            events = places.pop(place, [])[1 - KEPT :]
            events.append(RingEvent(now_ns, queue, iova))
            places[place] = events  # last in the order of the dictionary
        while len(places) > PLACES_MAX:
            del places[next(iter(places))]

    def posted_within(self, place: int, held_ns: int, until_ns: int) -> list[RingEvent]:
        """Posts of ``place`` while the stack had what it got there.

        held_ns: the latest that it may have got it; until_ns: the earliest that it may have let it
        go. The last return that may have been before ``held_ns`` is that of the stack's buffer, or
        of a later one: whatever was posted behind it was posted too early. If no return is known,
        only what was posted after ``held_ns`` is certain.
        """
        events = self._places.get(place, [])
        first = 0
        for at, event in enumerate(events):
            if event.queue == RETURNED and event.time_ns <= held_ns:
                first = at + 1
        since_ns = events[first - 1].time_ns if first else held_ns
        return [
            event
            for event in events[first:]
            if event.queue != RETURNED and since_ns <= event.time_ns < until_ns
        ]
