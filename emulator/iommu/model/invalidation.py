# SPDX-License-Identifier: MIT
"""When an unmapped page really is gone: strict, lazy and single-queue invalidation as in Linux.

Strict: each unmap waits until the IOTLB has forgotten it. Lazy: unmaps are noted in a queue for
each CPU; when one is full, or 10 ms after the first, one flush of the domain ends them all. An
entry goes when a flush that *started* after it was queued has finished; until then the device may
still reach the page, and the IOVA is not given out again. The single queue (Linux 6.7, for
hypervisors that shadow page tables) is the same with one long queue and 1 s.

The ring of a queue tells full from empty by one free place: 256 places hold 255 entries.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.contention import SerialServer
from emulator.iommu.model.errors import ModelError, TimeBackwardsError
from emulator.iommu.model.exposure import Exposure

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


@dataclass(slots=True)
class _Queue:
    """Rows of pfn, pages, time, flush count; in order; ``ended`` rows wait for their flush."""

    capacity: int
    rows: NDArray[np.int64] = field(init=False)
    length: int = 0
    ended: int = 0

    def __post_init__(self) -> None:
        self.rows = np.zeros((self.capacity, 4), np.int64)

    def add(self, pfns: Pages, pages: int, now_ns: int, count: int) -> None:
        here = self.rows[self.length : self.length + len(pfns)]
        here[:, 0], here[:, 1:] = pfns, (pages, now_ns, count)
        self.length += len(pfns)

    def drop_before(self, count: int) -> Pages:
        """Takes out what was queued before flush number ``count`` started; its pfns."""
        gone = int(np.searchsorted(self.rows[: self.length, 3], count))
        freed = self.rows[:gone, 0].copy()
        if gone:
            self.rows[: self.length - gone] = self.rows[gone : self.length].copy()
            self.length -= gone
            self.ended -= gone
        return freed


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
        self.sync_ns, self.timeout_ns = sync_ns, timeout_ns
        self.hardware = hardware or SerialServer()
        self.exposure = Exposure()
        self.flush_start_count = self.flush_finish_count = 0
        self.full_flushes = self.timer_flushes = 0
        self._queues = [_Queue(entries - 1) for _ in range(1 if single else cpus)]
        self._finishing: deque[int] = deque()
        self._timer_ns: int | None = None
        self._now_ns = 0

    @property
    def invalidations(self) -> int:
        """Flushes of the domain so far."""
        return self.flush_start_count

    @property
    def queued(self) -> int:
        """Entries whose IOVA is not free yet."""
        return sum(queue.length for queue in self._queues)

    def unmap(self, now_ns: int, cpu: int, pfns: Pages, pages: int = 1) -> Unmapped:
        """Queues ranges of ``pages`` at ``pfns``; flushes each time the CPU's queue is full.

        Raises:
            TimeBackwardsError: ``now_ns`` is before that of an earlier call.
        """
        freed = [self.advance(now_ns)]
        queue = self._queues[cpu % len(self._queues)]
        start, clock_ns = 0, now_ns
        while start < len(pfns):
            freed.append(queue.drop_before(self._finished(clock_ns)))
            if queue.length == queue.capacity:
                clock_ns = self._flush(clock_ns)
                self.full_flushes += 1
                freed.append(queue.drop_before(self._finished(clock_ns)))
            some = pfns[start : start + queue.capacity - queue.length]
            queue.add(some, pages, clock_ns, self.flush_start_count)
            start += len(some)
            if self._timer_ns is None:
                self._timer_ns = clock_ns + self.timeout_ns
        return Unmapped(clock_ns, np.concatenate(freed))

    def advance(self, now_ns: int) -> Pages:
        """Lets time pass: fires the timer if it is due; first pfns of IOVAs that became free.

        Raises:
            TimeBackwardsError: ``now_ns`` is before that of an earlier call.
        """
        if now_ns < self._now_ns:
            raise TimeBackwardsError(f"{now_ns} ns after {self._now_ns} ns: time goes forward only")
        self._now_ns = now_ns
        if self._timer_ns is None or self._timer_ns > now_ns:
            return np.zeros(0, np.int64)
        due_ns, self._timer_ns = self._timer_ns, None
        finished_ns = self._flush(due_ns)
        self.timer_flushes += 1
        count = self._finished(finished_ns)
        return np.concatenate([queue.drop_before(count) for queue in self._queues])

    def stale(self) -> Pages:
        """First pfns of ranges that no flush has covered so far: the device may reach them."""
        parts = [queue.rows[queue.ended : queue.length, 0] for queue in self._queues]
        return np.concatenate(parts)

    def close(self, now_ns: int) -> Pages:
        """The domain goes: one last flush; first pfns of all that was queued."""
        freed = [self.advance(now_ns)]
        count = self._finished(self._flush(now_ns))
        freed += [queue.drop_before(count) for queue in self._queues]
        self._timer_ns = None
        return np.concatenate(freed)

    def _flush(self, now_ns: int) -> int:
        """One flush of the domain, as seen by the CPU that waits for it; when it is finished."""
        self.flush_start_count += 1
        finished_ns = self.hardware.serve_one(now_ns, self.sync_ns)
        self._finishing.append(finished_ns)
        for queue in self._queues:
            ending = queue.rows[queue.ended : queue.length]
            self.exposure.add(ending[:, 1], ending[:, 2], np.maximum(finished_ns, ending[:, 2]))
            queue.ended = queue.length
        return finished_ns

    def _finished(self, now_ns: int) -> int:
        """The number of flushes finished by ``now_ns``."""
        while self._finishing and self._finishing[0] <= now_ns:
            self._finishing.popleft()
            self.flush_finish_count += 1
        return self.flush_finish_count
