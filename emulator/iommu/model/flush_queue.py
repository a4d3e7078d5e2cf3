# SPDX-License-Identifier: MIT
"""Queues of unmapped ranges that wait for a flush of their domain, as kernels.

A flush ends all ranges that were queued when it started; they leave their queue, and their IOVAs
are free again, once it has finished and somebody looks. Until a flush has ended it, the device may
still reach a range.

The ring of a queue tells full from empty by one free place: 256 places hold 255 entries.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.iommu.model.places import (
    ENDED,
    ENDED_LOST,
    LONGEST_STALE_NS,
    STALE_BYTE_NS,
    STALE_RANGES,
    TIMER_AT,
    TIMER_CPU,
    TIMER_FLUSHES,
)
from emulator.kernel import Floats, Ints, kernel

PAGE_BYTES = 4096

HEAD, COVERED, TAIL, QUEUES = range(4)
"""Places in a row of ``marks``, numbers of entries that run freely: the oldest entry, the first
that no flush has ended, the next to come. QUEUES, in the first row: how many queues there are."""
PFN, PAGES = 0, 1
SINCE, UNTIL = 0, 1
"""Places in an entry's ``times``: when it was queued, when the flush that ended it is finished."""


class FlushQueues(NamedTuple):
    """marks: int64[queues, 4]; ranges: int64[queues, places, 2]; times: float64, as ranges.

    There are at least as many places as entries, and a power of two of them.
    """

    marks: Ints
    ranges: Ints
    times: Floats


def make_queues(queues: int, entries: int, room: tuple[int, int] = (1, 1)) -> FlushQueues:
    """Empty ones of ``entries`` places each; room: queues and places of the arrays at least."""
    places = max(1 << (max(entries, 1) - 1).bit_length(), room[1])
    marks = np.zeros((max(queues, room[0]), 4), np.int64)
    marks[0, QUEUES] = queues
    shape = (len(marks), places, 2)
    return FlushQueues(marks, np.zeros(shape, np.int64), np.zeros(shape))


@kernel
def length(queues: FlushQueues, queue: int) -> int:
    """Entries that have not left, whether a flush has ended them or not."""
    return queues.marks[queue, TAIL] - queues.marks[queue, HEAD]


@kernel
def may_leave(queues: FlushQueues, queue: int, now: float) -> bool:
    """The flush that ended the oldest entry is finished."""
    head = queues.marks[queue, HEAD]
    if head == queues.marks[queue, COVERED]:
        return False
    return queues.times[queue, head & (queues.times.shape[1] - 1), UNTIL] <= now


@kernel
def leave(queues: FlushQueues, queue: int) -> tuple[int, int]:
    """Takes the oldest entry out: its pfn and pages."""
    place = queues.marks[queue, HEAD] & (queues.ranges.shape[1] - 1)
    queues.marks[queue, HEAD] += 1
    return queues.ranges[queue, place, PFN], queues.ranges[queue, place, PAGES]


@kernel
def put(queues: FlushQueues, queue: int, now: float, pfn: int, pages: int) -> None:
    """Queues a range; there must be room."""
    place = queues.marks[queue, TAIL] & (queues.ranges.shape[1] - 1)
    queues.marks[queue, TAIL] += 1
    queues.ranges[queue, place, PFN] = pfn
    queues.ranges[queue, place, PAGES] = pages
    queues.times[queue, place, SINCE] = now


@kernel
def arm_timer(n: Ints, f: Floats, cpu: int, due: float) -> None:
    """Unless it runs already: it is that of the oldest entry."""
    if f[TIMER_AT] == np.inf:
        f[TIMER_AT] = due
        n[TIMER_CPU] = cpu


@kernel
def timer_fires(n: Ints, f: Floats, now: float) -> bool:
    """Whether the timer is due by ``now``; it does not run any more then."""
    if f[TIMER_AT] > now:
        return False
    f[TIMER_AT] = np.inf
    n[TIMER_FLUSHES] += 1
    return True


@kernel
def cover(
    n: Ints, f: Floats, queues: FlushQueues, finished: float, ended: Ints, ended_ns: Floats
) -> None:
    """A flush that is finished at ``finished`` ends all that is queued."""
    mask = queues.ranges.shape[1] - 1
    for queue in range(queues.marks[0, QUEUES]):
        for number in range(queues.marks[queue, COVERED], queues.marks[queue, TAIL]):
            place = number & mask
            pages = queues.ranges[queue, place, PAGES]
            since = queues.times[queue, place, SINCE]
            queues.times[queue, place, UNTIL] = finished
            until = max(finished, since)
            n[STALE_RANGES] += 1
            f[STALE_BYTE_NS] += (until - since) * pages * PAGE_BYTES
            f[LONGEST_STALE_NS] = max(f[LONGEST_STALE_NS], until - since)
            note_end(n, ended, ended_ns, until, queues.ranges[queue, place, PFN], pages)
        queues.marks[queue, COVERED] = queues.marks[queue, TAIL]


@kernel
def note_end(n: Ints, ended: Ints, ended_ns: Floats, when: float, pfn: int, pages: int) -> None:
    """From ``when`` on the device does not reach the range; counted as lost if nobody drains."""
    place = n[ENDED]
    if place >= len(ended):
        n[ENDED_LOST] += 1
        return
    ended[place, PFN] = pfn
    ended[place, PAGES] = pages
    ended_ns[place] = when
    n[ENDED] = place + 1
