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

from dataclasses import dataclass
from typing import ClassVar

from pool.blocks import CodeArray
from pool.buffers import BufferBatch
from pool.carved import CarvedPool
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import PageStack

HUGE_ORDER = 9
"""2 MiB on x86-64."""
CACHE_SIZE = 256
"""A usual per-core cache; RTE_MEMPOOL_CACHE_MAX_SIZE is 512."""
FLUSH_THRESHOLD = CACHE_SIZE * 3 // 2
"""CACHE_FLUSHTHRESH_MULTIPLIER of rte_mempool is 1.5."""


@dataclass(slots=True)
class MempoolCounters(PoolCounters):
    """What left the cores' caches."""

    ring_fills: int = 0
    """Bulk dequeues to a cache."""
    ring_flushes: int = 0
    """Bulk enqueues from a cache."""


class Mempool(CarvedPool):
    """``pool_size`` buffers. huge_order: of the pages they are cut from."""

    name: ClassVar[str] = "mempool"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, shares_mapping=True)
    counters: MempoolCounters

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        huge_order: int = HUGE_ORDER,
    ) -> None:
        super().__init__(allocator, dma, config, huge_order)
        self.counters = MempoolCounters()
        self._ring = PageStack()
        self._here, self._elsewhere = PageStack(FLUSH_THRESHOLD), PageStack(FLUSH_THRESHOLD)

    def take(self, n: int) -> BufferBatch:
        """From this core's cache; what is in other cores' caches cannot be had."""
        self._check_open()
        if not len(self._firsts):
            self._populate()
        if len(self._here) < n and len(self._ring):
            self._here.push(self._ring.pop(n + CACHE_SIZE - len(self._here)))
            self.counters.ring_fills += 1
            self.counters.atomics += 1
        return self._lend(self._here.pop(n))

    def give(self, batch: BufferBatch, context: Context) -> None:
        """To the cache of the core that gives."""
        codes = self._take_back(batch)
        if self._closing:
            return
        cache = self._elsewhere if context is Context.REMOTE else self._here
        cache.push(codes)
        self.counters.recycled_cache += len(codes)
        if len(cache) >= FLUSH_THRESHOLD:
            self._flush(cache.pop(len(cache) - CACHE_SIZE))

    def _flush(self, codes: CodeArray) -> None:
        self._ring.push(codes)
        self.counters.recycled_ring += len(codes)
        self.counters.recycled_cache -= len(codes)
        self.counters.ring_flushes += 1
        self.counters.atomics += 1

    def _populate(self) -> None:
        """All or what can be had; tried again by the next take if that was nothing."""
        count = self._config.pool_size
        codes = self._grow(-(-count // self._blocks.per_block(self._order)))
        self._ring.push(codes[:count][::-1])

    def _empty_stores(self) -> None:
        for store in (self._ring, self._here, self._elsewhere):
            store.pop(len(store))
