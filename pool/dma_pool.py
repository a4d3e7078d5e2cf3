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

from dataclasses import dataclass
from typing import ClassVar

from pool.buffers import BufferBatch
from pool.carved import CarvedPool
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import PageStack


@dataclass(slots=True)
class DmaPoolCounters(PoolCounters):
    """``atomics`` are the spinlock."""

    high_water: int = 0
    """Most blocks out at one time."""


class DmaPool(CarvedPool):
    """Blocks of headroom and buffer, rounded up to a cache line, as many as fit in a page."""

    name: ClassVar[str] = "dma_pool"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, shares_mapping=True)
    counters: DmaPoolCounters

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config, 0)
        self.counters = DmaPoolCounters()
        self._free = PageStack(config.pool_size)

    def take(self, n: int) -> BufferBatch:
        """As ``n`` calls of dma_pool_alloc(): a lock each."""
        self._check_open()
        self.counters.atomics += n
        missing = n - len(self._free)
        if missing > 0:
            self._free.push(self._grow(-(-missing // self._blocks.per_block(0)))[::-1])
        batch = self._lend(self._free.pop(n))
        self.counters.high_water = max(self.counters.high_water, self.counters.outstanding)
        return batch

    def give(self, batch: BufferBatch, context: Context) -> None:
        """As dma_pool_free() of each: a lock each, wherever."""
        del context
        codes = self._take_back(batch)
        self.counters.atomics += len(batch)
        if not self._closing:
            self._free.push(codes)
            self.counters.recycled_ring += len(codes)

    def _empty_stores(self) -> None:
        self._free.pop(len(self._free))
