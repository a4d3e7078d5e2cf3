# SPDX-License-Identifier: MIT
"""``mapping_cache``: unmapped pages stay mapped for a while, in case they are mapped again.

Whose: Matthew Wilcox (thread row T7): not a recycler of pages but a cache of recent mappings, below
the DMA API, so that every driver gains without a change.

How: the driver allocates, maps, unmaps and frees per packet. :class:`MappingCache` keeps the last
``capacity`` mappings that were unmapped; the page allocator likes to hand out what was freed last,
so the next map is often of a page whose old mapping is still there: a hit costs no page-table
update and no invalidation. The least recently unmapped are ended when there are more.

Where it breaks: that is the security of the IOMMU that is traded. A page in the cache was
unmapped and freed, may be anybody's by now, and the device still reaches it: see
:meth:`MappingCache.stale_pages` and the counter ``stale_peak``. The window has no end in time,
only one in number. The hit ratio falls with the distance between free and reuse.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel
from pool import ports
from pool.buffers import PfnArray
from pool.counters import (
    ALLOCATIONS,
    ATOMICS,
    GIVEN,
    MAP_ERRORS,
    MAPPED_PAGES,
    MAPS,
    OWN,
    RELEASED,
    SINGLE_CALLS,
    UNMAPPED_PAGES,
    UNMAPS,
)
from pool.guarantees import Guarantees
from pool.interface import Direction, DmaApi, PageAllocator, PoolConfig
from pool.kept import calls_for
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, Host, HostPorts
from pool.steps import (
    BATCH,
    CLOSING,
    CONF,
    frames_of,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
    lend,
    no_addresses,
)

IDLE, CAPACITY, FOUND, MISSED, ENDED, PEAK = range(6)
"""Places in ``CacheState.at``: idle mappings, how many there may be, and the counts of
:class:`MappingCache`."""
NOT_IDLE = -1
OWNS_CACHE = CONF
"""In the pool's ``conf``."""
HITS, EVICTIONS, STALE_PEAK = range(OWN, OWN + 3)


class CacheState(NamedTuple):
    """The mappings of one device, and in which order they became idle.

    iova: int64[frames], address of each frame that is mapped. newer, older: int64[frames + 1], the
    idle frames as a list in a circle: next and previous of each, NOT_IDLE in ``newer`` where it is
    not idle; the last place is where the list begins and ends. pfns, iovas: int64[BATCH].
    """

    at: Ints
    iova: Ints
    newer: Ints
    older: Ints
    pfns: Ints
    iovas: Ints


class MappingCache:
    """Keeps up to ``capacity`` idle mappings of one device; order-0 pages, one direction.

    hits, misses: maps served from the cache and not; evictions: idle mappings ended to make room;
    stale_peak: most idle mappings at one time.
    """

    def __init__(
        self, allocator: PageAllocator, dma: DmaApi, capacity: int, direction: Direction
    ) -> None:
        frames = sum(allocator.span)
        self._ports = HostPorts(allocator, dma, direction)
        self.state = CacheState(
            np.zeros(PEAK + 1, np.int64),
            no_addresses(frames),
            np.full(frames + 1, NOT_IDLE, np.int64),
            np.zeros(frames + 1, np.int64),
            np.zeros(BATCH, np.int64),
            np.zeros(BATCH, np.int64),
        )
        self.state.at[CAPACITY] = capacity
        self.state.newer[frames] = self.state.older[frames] = frames

    def stale_pages(self) -> PfnArray:
        """int64[m]: frames that were unmapped by the driver and are still mapped, ascending."""
        return np.flatnonzero(self.state.newer[:-1] != NOT_IDLE)

    def flush(self) -> int:
        """Ends every idle mapping: what removing the device does. Returns how many."""
        return int(flush(self.state, self._ports))

    @property
    def hits(self) -> int:  # noqa: D102
        return int(self.state.at[FOUND])

    @property
    def misses(self) -> int:  # noqa: D102
        return int(self.state.at[MISSED])

    @property
    def evictions(self) -> int:  # noqa: D102
        return int(self.state.at[ENDED])

    @property
    def stale_peak(self) -> int:  # noqa: D102
        return int(self.state.at[PEAK])


class MappingCacheState(NamedTuple):
    """cache: of the device."""

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    cache: CacheState


class MappingCachePool(BufferPool):
    """``map_per_packet`` above a cache of ``pool_size`` mappings.

    cache: of the device, shared by its queues, flushed by its owner; without one the pool makes
    its own, and flushes it when nothing is out any more.

    ``maps`` and ``unmaps`` are those that reached the IOMMU; the driver's calls are here. hits:
    maps that found their page still mapped; evictions: idle mappings of the cache ended to make
    room, by whichever pool; stale_peak: most pages of the cache at one time that the device reached
    after their unmap.
    """

    name: ClassVar[str] = "mapping_cache"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, mapped_when_free=True)
    own_counters = ("hits", "evictions", "stale_peak")

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        cache: MappingCache | None = None,
    ) -> None:
        super().__init__(allocator, dma, config)
        self.guarantees = replace(self.guarantees, mapped_after_close=cache is not None)
        owns = int(cache is None)
        self.cache = cache or MappingCache(allocator, dma, config.pool_size, config.direction)
        self.state = MappingCacheState(
            *self.common(0, (owns,)), np.zeros(BATCH, np.int64), self.cache.state
        )

    @property
    def hit_ratio(self) -> float:
        """Share of the driver's maps that cost nothing; 0 before the first."""
        counters = self.counters
        calls = counters.hits + counters.maps + counters.map_errors
        return counters.hits / calls if calls else 0.0


@implement_take(MappingCacheState)
def _take(pool: MappingCacheState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """``n`` single-page allocations and maps, these through the cache."""
    done, more = 0, True
    while done < n and more:
        want = min(BATCH, n - done)
        got = ports.alloc_pages(host, want, 0, False, pool.fresh)
        pool.c[SINGLE_CALLS] += calls_for(want, got)
        count = _map(pool, host, got)
        pool.c[ALLOCATIONS] += count
        for i in range(count):
            lend(pool, pool.fresh[i], done + i, mem, iova)
        done += count
        more = count == want
    return done


@implement_receive(MappingCacheState)
def _receive(
    pool: MappingCacheState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """To the driver it is an unmap; to the device nothing changes."""
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        frames_of(count, start, mem, pool.pfns)
        _unmap(pool, host, count)
    for i in range(n):
        iova[i] = NO_ADDRESS


@implement_give(MappingCacheState)
def _give(
    pool: MappingCacheState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """Frees the pages, after an unmap if they were not received; no store, so no context."""
    pool.c[GIVEN] += n
    pool.c[RELEASED] += n
    pool.c[ATOMICS] += n  # put_page()
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        frames_of(count, start, mem, pool.pfns)
        _unmap(pool, host, count)
        ports.free_pages(host, count, 0, False, pool.pfns)


@implement_close(MappingCacheState)
def _close(pool: MappingCacheState, host: Host) -> int:
    """Flushes the pool's own cache."""
    pool.at[CLOSING] = 1
    if pool.conf[OWNS_CACHE]:
        _count_ended(pool, flush(pool.cache, host))
    return inflight(pool)


@kernel
def _map(pool: MappingCacheState, host: Host, n: int) -> int:
    """Maps ``fresh``; those refused are freed at once and left out of it. How many are left."""
    hits = _map_cached(pool.cache, host, n, pool.fresh)
    kept = refused = 0
    for i in range(n):
        pfn = pool.fresh[i]
        pool.iova[pfn] = pool.cache.iova[pfn]
        if pool.iova[pfn] == NO_ADDRESS:
            pool.pfns[refused] = pfn
            refused += 1
        else:
            pool.fresh[kept] = pfn
            kept += 1
    pool.c[HITS] += hits
    pool.c[MAPS] += kept - hits
    pool.c[MAPPED_PAGES] += kept - hits
    pool.c[MAP_ERRORS] += refused
    if refused:
        ports.free_pages(host, refused, 0, False, pool.pfns)
    return kept


@kernel
def _unmap(pool: MappingCacheState, host: Host, n: int) -> None:
    """Those of ``pfns`` that are mapped become idle; a closed pool's own cache keeps none."""
    live = 0
    for i in range(n):
        pfn = pool.pfns[i]
        if pool.iova[pfn] != NO_ADDRESS:
            pool.iova[pfn] = NO_ADDRESS
            pool.fresh[live] = pfn
            live += 1
    _count_ended(pool, _unmap_cached(pool.cache, host, live, pool.fresh))
    if pool.at[CLOSING] and pool.conf[OWNS_CACHE]:
        _count_ended(pool, flush(pool.cache, host))
    pool.c[EVICTIONS] = pool.cache.at[ENDED]
    pool.c[STALE_PEAK] = pool.cache.at[PEAK]


@kernel
def _count_ended(pool: MappingCacheState, ended: int) -> None:
    pool.c[UNMAPS] += ended
    pool.c[UNMAPPED_PAGES] += ended


@kernel
def flush(cache: CacheState, host: Host) -> int:
    """Ends every idle mapping; how many."""
    return _evict(cache, host, cache.at[IDLE])


@kernel
def _map_cached(cache: CacheState, host: Host, n: int, pfns: Ints) -> int:
    """Maps ``n`` (at most BATCH) pages; ``cache.iova`` has the addresses. How many were idle."""
    missing = 0
    for i in range(n):
        pfn = pfns[i]
        if cache.newer[pfn] != NOT_IDLE:
            _take_out(cache, pfn)
        else:
            cache.pfns[missing] = pfn
            missing += 1
    if missing:
        ports.map_pages(host, missing, 0, cache.pfns, cache.iovas)
    for i in range(missing):
        cache.iova[cache.pfns[i]] = cache.iovas[i]
    cache.at[FOUND] += n - missing
    cache.at[MISSED] += missing
    return n - missing


@kernel
def _unmap_cached(cache: CacheState, host: Host, n: int, pfns: Ints) -> int:
    """``n`` (at most BATCH) mappings become idle; how many others were ended to make room."""
    end = len(cache.iova)
    for i in range(n):
        pfn, before = pfns[i], cache.older[end]
        cache.older[pfn], cache.newer[pfn] = before, end
        cache.newer[before] = cache.older[end] = pfn
    cache.at[IDLE] += n
    ended = _evict(cache, host, max(0, cache.at[IDLE] - cache.at[CAPACITY]))
    cache.at[ENDED] += ended
    cache.at[PEAK] = max(cache.at[PEAK], cache.at[IDLE])
    return ended


@kernel
def _take_out(cache: CacheState, pfn: int) -> None:
    """It is not idle any more."""
    newer, older = cache.newer[pfn], cache.older[pfn]
    cache.older[newer], cache.newer[older] = older, newer
    cache.newer[pfn] = NOT_IDLE
    cache.at[IDLE] -= 1


@kernel
def _evict(cache: CacheState, host: Host, count: int) -> int:
    """Ends the ``count`` mappings that have been idle longest."""
    left = count
    while left:
        n = min(BATCH, left)
        for i in range(n):
            pfn = cache.newer[len(cache.iova)]
            _take_out(cache, pfn)
            cache.iovas[i] = cache.iova[pfn]
            cache.iova[pfn] = NO_ADDRESS
        ports.unmap_pages(host, n, 0, cache.iovas)
        left -= n
    return count
