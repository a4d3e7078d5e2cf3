# SPDX-License-Identifier: MIT
"""``dma_pool``: the kernel's pool of small coherent blocks, with streaming mappings instead.

Whose: Alexander Duyck (thread row T6): mm/dmapool.c already keeps mapped pages per device; teach it
streaming mappings rather than write another pool.

How: a block has one size and never crosses a page. Taking unlinks a block from the free list under
the pool's spinlock; an empty list is fed by allocating and mapping one more page. Giving links it
again under the same lock, from whatever CPU. Pages leave only when the pool is destroyed. What the
coherent pool does not need and this one does is a sync in either direction for each block.

Where it breaks: two locked operations a packet, on a lock that all CPUs share which free packets of
the queue; nothing is done in bulk; the pool stays as large as it ever was (``high_water``); and
blocks share pages, so the device reaches the neighbours of what it was given.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from emulator.kernel import Ints
from pool import stores
from pool.blocks import per_block
from pool.carved import CarvedPool, blocks_missing, close_blocks, grow, lend_cut, take_back
from pool.counters import ATOMICS, GIVEN, OWN, RECYCLED_RING, RING_OPS, TAKEN
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.ports import Host
from pool.steps import (
    CLOSING,
    hand_to_cpu,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
)
from pool.stores import Stack

HIGH_WATER = OWN


class DmaPoolState(NamedTuple):
    """free: places of the blocks that are home."""

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
    free: Stack


class DmaPool(CarvedPool):
    """Blocks of headroom and buffer, rounded up to a cache line, as many as fit in a page.

    ``atomics`` are the spinlock; high_water: most blocks out at one time.
    """

    name: ClassVar[str] = "dma_pool"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, shares_mapping=True)
    own_counters = ("high_water",)

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config, 0)
        free = stores.make_stack(self.frames * per_block(0, self.slot_bytes))
        self.state = DmaPoolState(*self.carved(), self.all_blocks(), free)


@implement_take(DmaPoolState)
def _take(pool: DmaPoolState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """As ``n`` calls of dma_pool_alloc(): a lock each."""
    pool.c[ATOMICS] += n
    missing = n - stores.count(pool.free)
    if missing > 0:
        blocks = blocks_missing(pool, missing)
        pool.c[RING_OPS] += grow(pool, host, blocks, stores.room(pool.free), pool.free)
    n = min(n, stores.count(pool.free))
    for i in range(n):
        lend_cut(pool, stores.pop(pool.free), i, mem, iova)
    pool.c[RING_OPS] += n
    pool.c[HIGH_WATER] = max(pool.c[HIGH_WATER], pool.c[TAKEN] - pool.c[GIVEN])
    return n


@implement_receive(DmaPoolState)
def _receive(pool: DmaPoolState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints) -> None:
    """Syncs for the CPU; the mapping stays."""
    hand_to_cpu(pool, host, n, iova, lengths)


@implement_give(DmaPoolState)
def _give(pool: DmaPoolState, host: Host, n: int, mem: Ints, received: Ints, context: int) -> None:
    """As dma_pool_free() of each: a lock each, wherever."""
    pool.c[GIVEN] += n
    pool.c[ATOMICS] += n
    take_back(pool, host, n, mem)
    if pool.at[CLOSING]:
        return
    for i in range(n):
        stores.push(pool.free, mem[i])
    pool.c[RECYCLED_RING] += n
    pool.c[RING_OPS] += n


@implement_close(DmaPoolState)
def _close(pool: DmaPoolState, host: Host) -> int:
    """As dma_pool_destroy(), but blocks that are out keep their page."""
    close_blocks(pool, host)
    return inflight(pool)
