# SPDX-License-Identifier: MIT
"""``mempool``: a fixed number of buffers in huge pages that are mapped once.

Whose: DPDK's rte_mempool, which Jesper Dangaard Brouer holds up as the mark to reach (thread row
T21): not one atomic per packet.

How: all buffers are cut from 2 MiB pages when the pool is populated, and stay mapped until it is
freed. Each core has a cache of 256; taking and giving on one core touches nothing else. An empty
cache is filled from a common ring, a cache with half as many again as its size is flushed to it,
in bulk and with one compare-and-swap for the bulk.

Where it breaks: the memory belongs to the pool for good, used or not, and its whole extent is in
reach of the device: every buffer, whoever has it. Cores that only free, and cores that only take,
go through the ring; and what is in another core's cache cannot be taken, so a pool that is sized
for its ring alone runs dry. There is no fallback when no huge page is to be had.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from emulator.kernel import Ints, kernel
from pool import stores
from pool.buffers import PAGE_SHIFT
from pool.carved import CarvedPool, blocks_missing, close_blocks, grow, lend_cut, take_back
from pool.counters import ATOMICS, GIVEN, OWN, RECYCLED_CACHE, RECYCLED_RING, RING_OPS
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.ports import Host
from pool.steps import (
    CLOSING,
    REMOTE,
    SIZE,
    hand_to_cpu,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
)
from pool.stores import Queue, Stack

HUGE_ORDER = 9
"""2 MiB on x86-64."""
CACHE_SIZE = 256
"""A usual per-core cache; RTE_MEMPOOL_CACHE_MAX_SIZE is 512."""
FLUSH_THRESHOLD = CACHE_SIZE * 3 // 2
"""CACHE_FLUSHTHRESH_MULTIPLIER of rte_mempool is 1.5."""
RING_FILLS, RING_FLUSHES = range(OWN, OWN + 2)


class MempoolState(NamedTuple):
    """ring: the common one; here, elsewhere: caches of the queue's core and of one that frees.

    All are of places of buffers.
    """

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    first: Ints
    away: Ints
    blocks: Stack
    ring: Queue
    here: Stack
    elsewhere: Stack


class Mempool(CarvedPool):
    """``pool_size`` buffers. huge_order: of the pages they are cut from.

    ring_fills: bulk dequeues to a cache; ring_flushes: bulk enqueues from a cache.
    """

    name: ClassVar[str] = "mempool"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, shares_mapping=True)
    own_counters = ("ring_fills", "ring_flushes")

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        huge_order: int = HUGE_ORDER,
    ) -> None:
        super().__init__(allocator, dma, config, huge_order)
        if huge_order >= HUGE_ORDER:
            self.iommu_page_shift = PAGE_SHIFT + HUGE_ORDER
        size = config.pool_size
        self.state = MempoolState(
            *self.carved(),
            self.all_blocks(),
            stores.make_queue(size),
            stores.make_stack(size),
            stores.make_stack(size),
        )


@implement_take(MempoolState)
def _take(pool: MempoolState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """From this core's cache; what is in other cores' caches cannot be had."""
    if stores.count(pool.blocks) == 0:
        _populate(pool, host)
    if stores.count(pool.here) < n and stores.count(pool.ring):
        _fill(pool, n + CACHE_SIZE - stores.count(pool.here))
    n = min(n, stores.count(pool.here))
    for i in range(n):
        lend_cut(pool, stores.pop(pool.here), i, mem, iova)
    return n


@implement_receive(MempoolState)
def _receive(pool: MempoolState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints) -> None:
    """Syncs for the CPU; the mapping stays."""
    hand_to_cpu(pool, host, n, iova, lengths)


@implement_give(MempoolState)
def _give(pool: MempoolState, host: Host, n: int, mem: Ints, received: Ints, context: int) -> None:
    """To the cache of the core that gives."""
    pool.c[GIVEN] += n
    take_back(pool, host, n, mem)
    if not pool.at[CLOSING]:
        cache = pool.elsewhere if context == REMOTE else pool.here
        for i in range(n):
            stores.push(cache, mem[i])
        pool.c[RECYCLED_CACHE] += n
        if stores.count(cache) >= FLUSH_THRESHOLD:
            _flush(pool, cache)


@implement_close(MempoolState)
def _close(pool: MempoolState, host: Host) -> int:
    """As rte_mempool_free(), but buffers that are out keep their huge page."""
    close_blocks(pool, host)
    return inflight(pool)


@kernel
def _populate(pool: MempoolState, host: Host) -> None:
    """All or what can be had; tried again by the next take if that was nothing."""
    size = pool.conf[SIZE]
    pool.c[RING_OPS] += grow(pool, host, blocks_missing(pool, size), size, pool.here)
    while stores.count(pool.here):
        stores.append(pool.ring, stores.pop(pool.here))


@kernel
def _fill(pool: MempoolState, n: int) -> None:
    """Up to ``n`` from the ring to the cache, with one compare-and-swap."""
    n = min(n, stores.count(pool.ring))
    for _ in range(n):
        stores.push(pool.here, stores.take_oldest(pool.ring))
    pool.c[RING_OPS] += n
    pool.c[RING_FILLS] += 1
    pool.c[ATOMICS] += 1


@kernel
def _flush(pool: MempoolState, cache: Stack) -> None:
    """What a cache has beyond its size goes to the ring, with one compare-and-swap."""
    n = stores.count(cache) - CACHE_SIZE
    for _ in range(n):
        stores.append(pool.ring, stores.pop(cache))
    pool.c[RECYCLED_RING] += n
    pool.c[RECYCLED_CACHE] -= n
    pool.c[RING_OPS] += n
    pool.c[RING_FLUSHES] += 1
    pool.c[ATOMICS] += 1
