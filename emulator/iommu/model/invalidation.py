# SPDX-License-Identifier: MIT
"""When an unmapped page really is gone: strict, lazy and single-queue invalidation as in Linux.

Strict: each unmap waits until the IOTLB has forgotten it. Lazy: unmaps are noted in a queue for
each CPU; when one is full, or 10 ms after the first, one flush of the domain ends them all. An
entry goes when a flush that *started* after it was queued has finished; until then the device may
still reach the page, and the IOVA is not given out again. The single queue (Linux 6.7, for
hypervisors that shadow page tables) is the same with one long queue and 1 s.

The classes here are invalidation on its own, without IOVAs and caches, in batches of unmaps; all
of it together is :mod:`emulator.iommu.model.unit`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model import flush_queue
from emulator.iommu.model.contention import SerialServer, serve
from emulator.iommu.model.errors import ModelError, TimeBackwardsError
from emulator.iommu.model.exposure import Exposure, exposure_of
from emulator.iommu.model.flush_queue import COVERED, HEAD, PFN, TAIL, FlushQueues, make_queues
from emulator.iommu.model.places import (
    ENDED,
    FULL_FLUSHES,
    INVALIDATIONS,
    TIMER_AT,
    TIMER_FLUSHES,
    numbers,
    times,
)
from emulator.kernel import Floats, Ints, compiled, kernel

QUEUE_ENTRIES, QUEUE_TIMEOUT_NS = 256, 10_000_000
SINGLE_ENTRIES, SINGLE_TIMEOUT_NS = 32768, 1_000_000_000

Pages = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Unmapped:
    """What a batch of unmaps led to.

    Attributes:
        done_ns: when the CPU goes on.
        freed: first pfns of IOVAs that may be given out again, in order: other ones than came in.
    """

    done_ns: int
    freed: Pages


@dataclass(slots=True)
class StrictInvalidation:
    """One invalidation per unmap; all CPUs share the IOMMU's queue and wait in ``hardware``.

    Args:
        sync_ns: of one invalidation: from asking to the IOMMU's answer.
        hardware: share one between domains of the same IOMMU.
        batch: unmaps covered by one invalidation: 1 as in Linux; F&S asks once per 64 pages.
    """

    sync_ns: int
    hardware: SerialServer = field(default_factory=SerialServer)
    batch: int = 1
    invalidations: int = 0
    exposure: Exposure = field(default_factory=Exposure)

    def unmap(self, now_ns: int, cpu: int, pfns: Pages, pages: int = 1) -> Unmapped:
        """Unmaps ranges of ``pages`` at ``pfns`` one after the other; ``cpu`` makes no difference.

        The memory is only handed on when this returns: nothing is ever stale.
        """
        del cpu, pages
        rounds = -(-len(pfns) // self.batch)
        done_ns = now_ns
        if rounds:
            done_ns = self.hardware.serve_one(now_ns, rounds * self.sync_ns)
        self.invalidations += rounds
        return Unmapped(done_ns, pfns)

    def advance(self, now_ns: int) -> Pages:
        """Nothing is ever queued: no IOVA becomes free by waiting."""
        del now_ns
        return np.zeros(0, np.int64)

    def stale(self) -> Pages:
        """First pfns that the device still reaches: none."""
        return np.zeros(0, np.int64)


class _Domain(NamedTuple):
    """A domain with lazy invalidation; conf: sync_ns, entries of a queue, timeout_ns."""

    n: Ints
    f: Floats
    conf: Ints
    hardware: Floats
    queues: FlushQueues
    ended: Ints
    ended_ns: Floats


@kernel
def _free(domain: _Domain, queue: int, now: float, freed: Ints, count: int) -> int:
    """Appends what may leave one queue to the ``count`` pfns that were freed before."""
    while flush_queue.may_leave(domain.queues, queue, now):
        freed[count], _ = flush_queue.leave(domain.queues, queue)
        count += 1
    return count


@kernel
def _flush(domain: _Domain, now: float) -> float:
    domain.n[INVALIDATIONS] += 1
    finished = serve(domain.hardware, 0, now, domain.conf[0])
    flush_queue.cover(domain.n, domain.f, domain.queues, finished, domain.ended, domain.ended_ns)
    domain.n[ENDED] = 0
    return finished


@kernel
def _flush_and_free(domain: _Domain, now: float, freed: Ints, count: int) -> int:
    finished = _flush(domain, now)
    for queue in range(domain.queues.marks[0, flush_queue.QUEUES]):
        count = _free(domain, queue, finished, freed, count)
    return count


@kernel
def _advance(domain: _Domain, now: float, freed: Ints) -> int:
    due = domain.f[TIMER_AT]
    if flush_queue.timer_fires(domain.n, domain.f, now):
        return _flush_and_free(domain, due, freed, 0)
    return 0


@compiled
def _unmap_all(
    domain: _Domain, cpu: int, now: float, pfns: Ints, pages: int, freed: Ints
) -> tuple[int, float]:
    """The order of queue_iova() for each: free, flush if full, note; how many are freed, when."""
    count = _advance(domain, now, freed)
    queue = cpu % domain.queues.marks[0, flush_queue.QUEUES]
    for pfn in pfns:
        count = _free(domain, queue, now, freed, count)
        if flush_queue.length(domain.queues, queue) >= domain.conf[1]:
            domain.n[FULL_FLUSHES] += 1
            now = _flush(domain, now)
            count = _free(domain, queue, now, freed, count)
        flush_queue.put(domain.queues, queue, now, pfn, pages)
        flush_queue.arm_timer(domain.n, domain.f, cpu, now + domain.conf[2])
    return count, now


@compiled
def _pass_time(domain: _Domain, now: float, freed: Ints) -> int:
    return _advance(domain, now, freed)


@compiled
def _close(domain: _Domain, now: float, freed: Ints) -> int:
    return _flush_and_free(domain, now, freed, _advance(domain, now, freed))


class LazyInvalidation:
    """Flush queues: ``cpus`` of them, or one for all (``single``).

    Times given to its methods must not decrease. A timer that comes due between two calls fires
    at its own time, not at that of the call.

    Args:
        sync_ns: of one flush of the domain.
        entries, timeout_ns: of a queue, see the constants of this module.
        hardware: the IOMMU's invalidation queue, shared with other domains.

    Raises:
        ModelError: a queue that can hold nothing, or no CPU.
    """

    def __init__(
        self,
        sync_ns: int,
        cpus: int = 1,
        entries: int = QUEUE_ENTRIES,
        timeout_ns: int = QUEUE_TIMEOUT_NS,
        single: bool = False,
        hardware: SerialServer | None = None,
    ) -> None:
        if entries < 2 or cpus < 1 or timeout_ns < 1 or sync_ns < 0:
            raise ModelError(
                f"{cpus} queues of {entries} entries, {timeout_ns} ns: needs a queue of 2 at least"
            )
        self.hardware = hardware or SerialServer()
        self._domain = _Domain(
            numbers(),
            times(),
            np.array((sync_ns, entries - 1, timeout_ns), np.int64),
            self.hardware.f,
            make_queues(1 if single else cpus, entries),
            np.zeros((1, 2), np.int64),
            np.zeros(1),
        )
        self._now_ns = 0

    @property
    def invalidations(self) -> int:
        """Flushes of the domain so far."""
        return int(self._domain.n[INVALIDATIONS])

    @property
    def full_flushes(self) -> int:
        """Flushes because a queue was full."""
        return int(self._domain.n[FULL_FLUSHES])

    @property
    def timer_flushes(self) -> int:
        """Flushes by the timer."""
        return int(self._domain.n[TIMER_FLUSHES])

    @property
    def exposure(self) -> Exposure:
        """Of the ranges whose flush is finished, or has a time at which it will be."""
        return exposure_of(self._domain.n, self._domain.f)

    @property
    def queued(self) -> int:
        """Entries whose IOVA is not free yet."""
        marks = self._domain.queues.marks
        return int((marks[:, TAIL] - marks[:, HEAD]).sum())

    def unmap(self, now_ns: int, cpu: int, pfns: Pages, pages: int = 1) -> Unmapped:
        """Queues ranges of ``pages`` at ``pfns``; flushes each time the CPU's queue is full.

        Raises:
            TimeBackwardsError: ``now_ns`` is before that of an earlier call.
        """
        self._check(now_ns)
        freed = self._room(len(pfns))
        count, done_ns = _unmap_all(self._domain, cpu, float(now_ns), pfns, pages, freed)
        return Unmapped(int(done_ns), freed[:count])

    def advance(self, now_ns: int) -> Pages:
        """Lets time pass: fires the timer if it is due; first pfns of IOVAs that became free.

        Raises:
            TimeBackwardsError: ``now_ns`` is before that of an earlier call.
        """
        self._check(now_ns)
        freed = self._room(0)
        return freed[: _pass_time(self._domain, float(now_ns), freed)]

    def stale(self) -> Pages:
        """First pfns of ranges that no flush has covered so far: the device may reach them."""
        queues = self._domain.queues
        places = queues.ranges.shape[1]
        parts = [
            ranges[np.arange(mark[COVERED], mark[TAIL]) % places, PFN]
            for mark, ranges in zip(queues.marks, queues.ranges, strict=True)
        ]
        return np.concatenate(parts)

    def close(self, now_ns: int) -> Pages:
        """The domain goes: one last flush; first pfns of all that was queued."""
        self._check(now_ns)
        freed = self._room(0)
        count = _close(self._domain, float(now_ns), freed)
        self._domain.f[TIMER_AT] = np.inf
        return freed[:count]

    def _room(self, more: int) -> Pages:
        return np.zeros(self.queued + more, np.int64)

    def _check(self, now_ns: int) -> None:
        if now_ns < self._now_ns:
            raise TimeBackwardsError(f"{now_ns} ns after {self._now_ns} ns: time goes forward only")
        self._now_ns = now_ns
