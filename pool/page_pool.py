# SPDX-License-Identifier: MIT
"""``page_pool``: pages that stay mapped for as long as the pool has them.

Whose: Jesper Dangaard Brouer's proposal of April 2016 (one pool of DMA-mapped pages per receive
queue), merged in Linux 4.18; this follows net/core/page_pool.c and include/net/page_pool/types.h.

How: a page is mapped when it comes from the page allocator and unmapped when it goes back there,
and at no other time. Taking pops the allocation cache (LIFO, 128 pages, no lock); an empty cache
is refilled with up to 64 pages from the ptr_ring, else with 64 by one bulk allocation. A page
given back in the queue's own NAPI goes to the cache; from anywhere else, or when the cache is
full, to the ptr_ring under its producer lock; when that is full it is unmapped and freed.
Destroying the pool empties cache and ring, and retries once a second until nothing is in flight.

Where it breaks: pages held by slow consumers do not come back, so the pool falls to allocate and
map per packet; the pages pinned are those of the longest queue, not of the traffic; the device
can write to a page for as long as the stack reads it; and without tracking (kernels before 6.16)
a page that is out when the pool is destroyed keeps its mapping until it returns, however late.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel
from pool import ports, ring
from pool.buffers import PAGE_SHIFT
from pool.counters import (
    ATOMICS,
    BULK_CALLS,
    GIVEN,
    OWN,
    RECYCLED_CACHE,
    RECYCLED_RING,
    RELEASED,
    RING_FULL,
    RING_OPS,
)
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, Host
from pool.ring import RingState
from pool.steps import (
    AT,
    BATCH,
    CLOSING,
    CONF,
    NAPI,
    SYNC,
    enter,
    frames_of,
    hand_to_cpu,
    hand_to_device,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
    lend,
    unmap,
)

PP_ALLOC_CACHE_SIZE = 128
"""include/net/page_pool/types.h."""
PP_ALLOC_CACHE_REFILL = 64
"""include/net/page_pool/types.h: the NAPI budget."""
MAX_RING_SIZE = 32768
"""page_pool_init() of Linux 6.12 refuses more; later kernels cap silently (at 16384)."""
XDP_BULK_QUEUE_SIZE = 16
"""net/core/page_pool.c: pages per producer lock in page_pool_put_netmem_bulk()."""


COUNT, TURNED_AWAY, BULK_FAILED = AT, AT + 1, AT + 2
"""In ``at``: pages in the cache; pages of a give that the cache did not take, and whether the ring
had no room for one of their present bulk."""
TRACKING, RETURN_BULK = CONF, CONF + 1
"""In ``conf``: the options of :class:`PagePool`."""
FAST, SLOW, EMPTY, REFILL, CACHE_FULL = range(OWN, OWN + 5)


class PagePoolState(NamedTuple):
    """cache: int64[PP_ALLOC_CACHE_SIZE]; ring: of the pages that came back from elsewhere."""

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    cache: Ints
    ring: RingState


class PagePool(BufferPool):
    """One pool of one receive queue.

    dma_tracking: unmap pages that are still out when the pool is closed, as Linux 6.16 does.
    return_bulk: pages per producer lock when the ring takes pages back: 1 as for skbs
    (page_pool_put_unrefed_page), XDP_BULK_QUEUE_SIZE as for XDP frames.

    Its counters have the names of ``struct page_pool_alloc_stats`` and ``.._recycle_stats``:
    fast: taken from the cache; slow: taken straight from a bulk allocation, one per bulk; empty:
    times the ptr_ring was empty when a refill was due; refill: taken straight from a refill, one
    per refill; cache_full: given back in NAPI while the cache was full.
    """

    name: ClassVar[str] = "page_pool"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    own_counters = ("fast", "slow", "empty", "refill", "cache_full")

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        dma_tracking: bool = False,
        return_bulk: int = 1,
    ) -> None:
        super().__init__(allocator, dma, config)
        self.guarantees = replace(self.guarantees, unmapped_by_close=dma_tracking)
        self.state = PagePoolState(
            *self.common(3, (int(dma_tracking), return_bulk)),
            np.zeros(PP_ALLOC_CACHE_SIZE, np.int64),
            ring.make(min(config.pool_size, MAX_RING_SIZE)),
        )


@implement_take(PagePoolState)
def _take(pool: PagePoolState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """As ``n`` calls of page_pool_alloc_pages()."""
    for i in range(n):
        if pool.at[COUNT] > 0:
            pool.c[FAST] += 1
        elif not _fill_cache(pool, host):
            return i
        pool.at[COUNT] -= 1
        lend(pool, pool.cache[pool.at[COUNT]], i, mem, iova)
    return n


@implement_receive(PagePoolState)
def _receive(pool: PagePoolState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints) -> None:
    """Syncs for the CPU; the mapping stays."""
    hand_to_cpu(pool, host, n, iova, lengths)


@implement_give(PagePoolState)
def _give(pool: PagePoolState, host: Host, n: int, mem: Ints, received: Ints, context: int) -> None:
    """As page_pool_put_full_page() of each page; NAPI context may use the cache."""
    pool.c[GIVEN] += n
    in_napi = context == NAPI and not pool.at[CLOSING]
    pool.at[TURNED_AWAY] = 0
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        frames_of(count, start, mem, pool.pfns)
        hand_to_device(pool, host, count, pool.pfns)
        for i in range(start, start + count):
            pfn = mem[i] >> PAGE_SHIFT
            if in_napi and pool.at[COUNT] < PP_ALLOC_CACHE_SIZE:
                pool.cache[pool.at[COUNT]] = pfn
                pool.at[COUNT] += 1
                pool.c[RECYCLED_CACHE] += 1
                continue
            pool.c[CACHE_FULL] += in_napi
            _recycle_in_ring(pool, host, pfn)


@implement_close(PagePoolState)
def _close(pool: PagePoolState, host: Host) -> int:
    """As page_pool_destroy() the first time, then as its retry worker."""
    if not pool.at[CLOSING]:
        pool.at[CLOSING] = 1
        while pool.at[COUNT]:
            pool.at[COUNT] -= 1
            _release(pool, host, pool.cache[pool.at[COUNT]])
        pool.conf[SYNC] = 0
        if pool.conf[TRACKING]:
            _unmap_lent(pool, host)
    while ring.length(pool.ring):
        pool.c[RING_OPS] += 1
        _release(pool, host, ring.consume(pool.ring))
    return inflight(pool)


@kernel
def _fill_cache(pool: PagePoolState, host: Host) -> bool:
    """Refills from the ring or, if it is empty, by a bulk allocation. True: there are pages.

    The first page of a fill is not a fast one: its caller does not count it.
    """
    count = 0
    if ring.length(pool.ring):
        while count < PP_ALLOC_CACHE_REFILL and ring.length(pool.ring):
            pool.cache[count] = ring.consume(pool.ring)
            count += 1
        pool.c[RING_OPS] += count
        pool.c[REFILL] += 1
    else:
        pool.c[EMPTY] += 1
        count = _alloc_bulk(pool, host)
        pool.c[SLOW] += count > 0
    pool.at[COUNT] = count
    return count > 0


@kernel
def _alloc_bulk(pool: PagePoolState, host: Host) -> int:
    """__page_pool_alloc_pages_slow(): up to 64 pages into the cache, mapped and synced."""
    pool.c[BULK_CALLS] += 1
    count = ports.alloc_pages(host, PP_ALLOC_CACHE_REFILL, 0, True, pool.cache)
    if count == 0:
        return 0
    count = enter(pool, host, count, True, pool.cache)
    pool.c[ATOMICS] += count * pool.conf[TRACKING]
    return count


@kernel
def _recycle_in_ring(pool: PagePoolState, host: Host, pfn: int) -> None:
    """Produces it, under a lock that covers a bulk; releases it if the ring is full."""
    if pool.at[TURNED_AWAY] % pool.conf[RETURN_BULK] == 0:
        pool.c[ATOMICS] += 1
        pool.at[BULK_FAILED] = 0
    pool.at[TURNED_AWAY] += 1
    if ring.produce(pool.ring, pfn):
        pool.c[RECYCLED_RING] += 1
        pool.c[RING_OPS] += 1
        return
    pool.c[RING_FULL] += 1 - pool.at[BULK_FAILED]
    pool.at[BULK_FAILED] = 1
    _release(pool, host, pfn)


@kernel
def _release(pool: PagePoolState, host: Host, pfn: int) -> None:
    """page_pool_return_page(): unmaps, counts, frees."""
    pool.pfns[0] = pfn
    pool.c[ATOMICS] += 1 + unmap(pool, host, 1, 0, pool.pfns) * pool.conf[TRACKING]
    pool.c[RELEASED] += 1
    ports.free_pages(host, 1, 0, False, pool.pfns)


@kernel
def _unmap_lent(pool: PagePoolState, host: Host) -> None:
    """Ends the mappings of all pages there still are, wherever they are."""
    for pfn in range(len(pool.iova)):
        if pool.iova[pfn] != NO_ADDRESS:
            pool.pfns[0] = pfn
            pool.c[ATOMICS] += unmap(pool, host, 1, 0, pool.pfns)
