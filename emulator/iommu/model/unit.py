# SPDX-License-Identifier: MIT
"""One IOMMU with its driver: the parts of the model put together, as kernels for the twin.

Times are float64 ns, addresses are numbers of 4 KiB pages (int64). An operation begins at ``now``
on ``cpu`` and returns when that CPU may go on; what it spent is added to ``f`` by category, what
it did is counted in ``n`` (see :mod:`emulator.iommu.model.places`).

Ranges that the device really stopped reaching are appended to ``ended`` with their times; the
caller takes them out and sets ``n[ENDED]`` to 0 after each call that may end some.
"""

from __future__ import annotations

import numpy as np

from emulator.iommu.model import flush_queue, iotlb, tce
from emulator.iommu.model.contention import spend_at
from emulator.iommu.model.iova_time import give_iova, take_iova
from emulator.iommu.model.iova_tree import NO_RANGE
from emulator.iommu.model.places import (
    BATCH_INVALIDATION,
    COUNTERS,
    ENDED,
    ENDED_LOST,
    FORGET_WALKS,
    FULL_FLUSHES,
    HYPERVISOR,
    IDENTITY,
    INVALIDATION,
    INVALIDATION_NS,
    INVALIDATION_QUEUE,
    INVALIDATIONS,
    IOTLB_MISSES,
    IOVA_NS,
    MAP_NEXT_PAGE_NS,
    MAP_NS,
    MAPS,
    PAGE_TABLE_NS,
    QUEUE_CAPACITY,
    QUEUE_NS,
    QUEUED,
    REFUSED,
    STRICT,
    SYNC_NS,
    TCE,
    TIMEOUT_NS,
    TIMER_AT,
    TIMER_CPU,
    TIMER_FLUSHES,
    TIMER_NS,
    TRANSLATION,
    UNMAP_NEXT_PAGE_NS,
    UNMAP_NS,
    UNMAPS,
    WAIT_NS,
)
from emulator.iommu.model.state import Iommu, make_iommu
from emulator.kernel import Ints, kernel

__all__ = [
    "BATCH_INVALIDATION",
    "COUNTERS",
    "ENDED",
    "ENDED_LOST",
    "FULL",
    "FULL_FLUSHES",
    "INVALIDATIONS",
    "INVALIDATION_NS",
    "IOTLB_MISSES",
    "IOVA_NS",
    "MAPS",
    "PAGE_TABLE_NS",
    "SAME_AS_FRAME",
    "TIMER_FLUSHES",
    "TIMER_NS",
    "UNMAPS",
    "WAIT_NS",
    "Iommu",
    "advance",
    "drain",
    "is_identity",
    "make_iommu",
    "map_iova",
    "translate",
    "unmap_iova",
    "unmap_iova_many",
]

FULL = NO_RANGE
"""As the IOVA of a map: there is no room (-1, DMA_MAPPING_ERROR)."""
SAME_AS_FRAME = -2
"""As the IOVA of a map: the device uses the frame's own address, for ever."""


@kernel
def is_identity(io: Iommu) -> bool:
    """Maps give SAME_AS_FRAME: the device reaches all memory, all the time."""
    return io.par[TRANSLATION] == IDENTITY


@kernel
def map_iova(io: Iommu, cpu: int, now: float, pages: int) -> tuple[int, float]:
    """Maps ``pages`` at a new IOVA: its page number, FULL or SAME_AS_FRAME; when the CPU goes on.

    In a range of several pages the page-table work of the first is that of a single page.
    """
    io.n[MAPS] += 1
    if is_identity(io):
        return SAME_AS_FRAME, now
    pfn, now = take_iova(io, cpu, now, pages)
    if pfn == NO_RANGE:
        io.n[MAPS] -= 1
        io.n[REFUSED] += 1
        return FULL, now
    if io.par[TRANSLATION] == TCE:
        calls, calls_ns, entries_ns = tce.put_entries(io.n, io.par, pages)
        return pfn, _call(io, now, calls, calls_ns, entries_ns)
    own = io.par[MAP_NS] + (pages - 1) * io.par[MAP_NEXT_PAGE_NS]
    io.f[PAGE_TABLE_NS] += own
    return pfn, now + own


@kernel
def unmap_iova(io: Iommu, cpu: int, now: float, iova_pfn: int, pages: int) -> float:
    """Undoes a map of ``pages`` at ``iova_pfn``.

    Strict and TCE: the range has ended and its IOVA is free on return. Lazy and single queue: it
    waits in a queue; a full queue is flushed first.
    """
    io.n[UNMAPS] += 1
    if is_identity(io):
        return now
    if io.par[TRANSLATION] == TCE:
        calls, calls_ns, entries_ns = tce.stuff_entries(io.n, io.par, pages)
        return _end(io, cpu, _call(io, now, calls, calls_ns, entries_ns), iova_pfn, pages)
    now = _clear_entries(io, now, pages)
    if io.par[INVALIDATION] == QUEUED:
        return _queue(io, cpu, now, iova_pfn, pages)
    if io.par[INVALIDATION] == STRICT:
        now = _invalidate(io, now)
    return _end(io, cpu, now, iova_pfn, pages)


@kernel
def unmap_iova_many(
    io: Iommu, cpu: int, now: float, count: int, iova_pfns: Ints, pages: int
) -> float:
    """Undoes ``count`` (at most MAX_RANGES) maps of ``pages`` each.

    Strict: one invalidation covers BATCH_INVALIDATION of them, in order.
    """
    batch = io.par[BATCH_INVALIDATION]
    if batch == 1 or io.par[INVALIDATION] != STRICT:
        for i in range(count):
            now = unmap_iova(io, cpu, now, iova_pfns[i], pages)
        return now
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        io.n[UNMAPS] += stop - start
        for _ in range(start, stop):
            now = _clear_entries(io, now, pages)
        now = _invalidate(io, now)
        # All of the batch have ended now; giving back the IOVAs takes its time afterwards.
        free_at = now
        for i in range(start, stop):
            _forget(io, now, iova_pfns[i], pages)
            free_at = give_iova(io, cpu, free_at, iova_pfns[i], pages, IOVA_NS)
        now = free_at
    return now


@kernel
def advance(io: Iommu, now: float) -> None:
    """Lets time pass: a lazy timer that is due by ``now`` fires, at its own time.

    What it takes, on the CPU that armed it, is TIMER_NS.
    """
    due = io.f[TIMER_AT]
    if flush_queue.timer_fires(io.n, io.f, now):
        _flush_and_free(io, io.n[TIMER_CPU], due, TIMER_NS)


@kernel
def drain(io: Iommu, now: float) -> float:
    """The domain goes: one last flush of what is queued; when it is done."""
    if io.par[INVALIDATION] != QUEUED:
        return now
    advance(io, now)
    io.f[TIMER_AT] = np.inf
    return _flush_and_free(io, 0, now, INVALIDATION_NS)


@kernel
def translate(io: Iommu, iova_pfn: int, page_shift: int) -> int:
    """Page-table reads (0 to 4) of an access by the device in a page of 2^page_shift bytes."""
    return iotlb.look_up(io.n, io.caches, iova_pfn, page_shift)


@kernel
def _call(io: Iommu, now: float, calls: int, calls_ns: int, entries_ns: int) -> float:
    """Calls of the hypervisor, behind those of all other CPUs if it has a ceiling."""
    done = tce.call(io.f, HYPERVISOR, io.par, now, calls, calls_ns, entries_ns)
    io.f[PAGE_TABLE_NS] += calls_ns + entries_ns
    io.f[WAIT_NS] += done - now - calls_ns - entries_ns
    return done


@kernel
def _clear_entries(io: Iommu, now: float, pages: int) -> float:
    """Finds the range and clears its page-table entries."""
    own = io.par[UNMAP_NS] + (pages - 1) * io.par[UNMAP_NEXT_PAGE_NS]
    io.f[PAGE_TABLE_NS] += own
    return now + own


@kernel
def _invalidate(io: Iommu, now: float) -> float:
    """One invalidation, behind those of all other CPUs."""
    io.n[INVALIDATIONS] += 1
    return spend_at(io.f, INVALIDATION_QUEUE, now, io.par[SYNC_NS], INVALIDATION_NS)


@kernel
def _forget(io: Iommu, now: float, iova_pfn: int, pages: int) -> None:
    """The device does not reach the range any more."""
    iotlb.forget_range(io.caches, iova_pfn, pages, io.par[FORGET_WALKS] != 0)
    flush_queue.note_end(io.n, io.ended, io.ended_ns, now, iova_pfn, pages)


@kernel
def _end(io: Iommu, cpu: int, now: float, iova_pfn: int, pages: int) -> float:
    _forget(io, now, iova_pfn, pages)
    return give_iova(io, cpu, now, iova_pfn, pages, IOVA_NS)


@kernel
def _queue(io: Iommu, cpu: int, now: float, iova_pfn: int, pages: int) -> float:
    """As queue_iova(): frees what a flush has ended, flushes if there is no room, notes it."""
    advance(io, now)
    queue = cpu % io.queues.marks[0, flush_queue.QUEUES]
    now = _free_ended(io, cpu, queue, now, now, IOVA_NS)
    if flush_queue.length(io.queues, queue) >= io.par[QUEUE_CAPACITY]:
        io.n[FULL_FLUSHES] += 1
        now = _flush(io, now, INVALIDATION_NS)
        now = _free_ended(io, cpu, queue, now, now, IOVA_NS)
    io.f[INVALIDATION_NS] += io.par[QUEUE_NS]
    now += io.par[QUEUE_NS]
    flush_queue.put(io.queues, queue, now, iova_pfn, pages)
    flush_queue.arm_timer(io.n, io.f, cpu, now + io.par[TIMEOUT_NS])
    return now


@kernel
def _flush(io: Iommu, now: float, category: int) -> float:
    """One flush of the domain: ends all that is queued, on every CPU; when it is finished."""
    io.n[INVALIDATIONS] += 1
    finished = spend_at(io.f, INVALIDATION_QUEUE, now, io.par[SYNC_NS], category)
    flush_queue.cover(io.n, io.f, io.queues, finished, io.ended, io.ended_ns)
    iotlb.forget_all(io.caches)
    return finished


@kernel
def _flush_and_free(io: Iommu, cpu: int, now: float, category: int) -> float:
    finished = now = _flush(io, now, category)
    freeing = TIMER_NS if category == TIMER_NS else IOVA_NS
    for queue in range(io.queues.marks[0, flush_queue.QUEUES]):
        now = _free_ended(io, cpu, queue, finished, now, freeing)
    return now


@kernel
def _free_ended(
    io: Iommu, cpu: int, queue: int, finished: float, now: float, category: int
) -> float:
    """Frees the IOVAs of one queue whose flush was over at ``finished``."""
    while flush_queue.may_leave(io.queues, queue, finished):
        pfn, pages = flush_queue.leave(io.queues, queue)
        now = give_iova(io, cpu, now, pfn, pages, category)
    return now
