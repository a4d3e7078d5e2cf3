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

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.buffers import BufferBatch, PfnArray, constant
from pool.guarantees import Guarantees
from pool.interface import (
    BufferPool,
    Context,
    DmaApi,
    PageAllocator,
    PoolConfig,
    PoolCounters,
)
from pool.pages import PageRecords
from pool.ptr_ring import PtrRing

PP_ALLOC_CACHE_SIZE = 128
"""include/net/page_pool/types.h."""
PP_ALLOC_CACHE_REFILL = 64
"""include/net/page_pool/types.h: the NAPI budget."""
MAX_RING_SIZE = 32768
"""page_pool_init() of Linux 6.12 refuses more; later kernels cap silently (at 16384)."""
XDP_BULK_QUEUE_SIZE = 16
"""net/core/page_pool.c: pages per producer lock in page_pool_put_netmem_bulk()."""


@dataclass(slots=True)
class PagePoolCounters(PoolCounters):
    """With the names of ``struct page_pool_alloc_stats`` and ``page_pool_recycle_stats``."""

    fast: int = 0
    """Taken from the cache."""
    slow: int = 0
    """Taken straight from a bulk allocation: one per bulk."""
    empty: int = 0
    """Times the ptr_ring was empty when a refill was due."""
    refill: int = 0
    """Taken straight from a refill: one per refill."""
    cache_full: int = 0
    """Given back in NAPI while the cache was full."""


class PagePool(BufferPool):
    """One pool of one receive queue.

    dma_tracking: unmap pages that are still out when the pool is closed, as Linux 6.16 does.
    return_bulk: pages per producer lock when the ring takes pages back: 1 as for skbs
    (page_pool_put_unrefed_page), XDP_BULK_QUEUE_SIZE as for XDP frames.
    """

    name: ClassVar[str] = "page_pool"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    counters: PagePoolCounters

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
        self.counters = PagePoolCounters()
        self._cache: PfnArray = np.zeros(PP_ALLOC_CACHE_SIZE, np.int64)
        self._count = 0
        self._ring = PtrRing(min(config.pool_size, MAX_RING_SIZE))
        self._pages = PageRecords(self.name, dma.domain)
        self._sync = config.sync
        self._dma_tracking, self._return_bulk = dma_tracking, return_bulk
        self.guarantees = replace(self.guarantees, unmapped_by_close=dma_tracking)

    def take(self, n: int) -> BufferBatch:
        """As ``n`` calls of page_pool_alloc_pages(). See :meth:`BufferPool.take`."""
        self._check_open()
        pfns = np.empty(n, np.int64)
        done = 0
        while done < n and (self._count or self._fill_cache()):
            count = min(n - done, self._count)
            pfns[done : done + count] = self._cache[self._count - count : self._count][::-1]
            self._count -= count
            self.counters.fast += count
            done += count
        pfns = pfns[:done]
        self._pages.lend(pfns)
        self.counters.taken += done
        return self._batch(pfns, self._pages.iovas(pfns))

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Syncs for the CPU; the mapping stays."""
        self.counters.syncs_for_cpu += len(batch)
        self._dma.sync_for_cpu(batch.iovas, lengths)
        return batch

    def give(self, batch: BufferBatch, context: Context) -> None:
        """As page_pool_put_full_page() of each page; NAPI context may use the cache."""
        self._pages.take_back(batch)
        self.counters.given += len(batch)
        self._sync_for_device(batch.pfns)
        pfns = batch.pfns
        if context is Context.NAPI and not self._closing:
            pfns = self._recycle_in_cache(pfns)
        if len(pfns):
            self._recycle_in_ring(pfns)

    def close(self) -> int:
        """As page_pool_destroy() the first time, then as its retry worker."""
        if not self._closing:
            self._closing = True
            self._release(self._cache[: self._count][::-1].copy())
            self._count = 0
            self._sync = False
            if self._dma_tracking:
                self._unmap(self._pages.mapped())
        self._release(self._ring.consume(len(self._ring)))
        return self.counters.inflight

    def _fill_cache(self) -> bool:
        """Refills from the ring or, if it is empty, by a bulk allocation. True: there are pages."""
        if len(self._ring):
            pfns = self._ring.consume(PP_ALLOC_CACHE_REFILL)
            self.counters.refill += 1
        else:
            self.counters.empty += 1
            pfns = self._alloc_bulk()
            self.counters.slow += bool(len(pfns))
        self._cache[: len(pfns)] = pfns
        self._count = len(pfns)
        self.counters.fast -= bool(self._count)  # the first page of a fill is not a fast one
        return self._count > 0

    def _alloc_bulk(self) -> PfnArray:
        """__page_pool_alloc_pages_slow(): up to 64 pages, mapped and synced; maybe none."""
        self.counters.bulk_calls += 1
        pfns = self._allocator.alloc_pages(PP_ALLOC_CACHE_REFILL)
        if not len(pfns):
            return pfns
        pfns, iovas = self._map(pfns)
        self._pages.set_iovas(pfns, iovas)
        self.counters.allocations += len(pfns)
        self.counters.atomics += len(pfns) * self._dma_tracking
        self._sync_for_device(pfns)
        return pfns

    def _recycle_in_cache(self, pfns: PfnArray) -> PfnArray:
        """Pushes what fits; returns the rest."""
        count = min(len(pfns), PP_ALLOC_CACHE_SIZE - self._count)
        self._cache[self._count : self._count + count] = pfns[:count]
        self._count += count
        self.counters.recycled_cache += count
        self.counters.cache_full += len(pfns) - count
        return pfns[count:]

    def _recycle_in_ring(self, pfns: PfnArray) -> None:
        """Produces what fits, a lock per bulk; releases the rest."""
        fits = self._ring.produce(pfns)
        self.counters.recycled_ring += fits
        self.counters.atomics += -(-len(pfns) // self._return_bulk)
        if fits < len(pfns):
            first_bulk = fits // self._return_bulk
            self.counters.ring_full += -(-len(pfns) // self._return_bulk) - first_bulk
            self._release(pfns[fits:])

    def _release(self, pfns: PfnArray) -> None:
        """page_pool_return_page(): unmaps, counts, frees."""
        if not len(pfns):
            return
        self._unmap(pfns)
        self.counters.released += len(pfns)
        self.counters.atomics += len(pfns)
        self._allocator.free_pages(pfns)

    def _unmap(self, pfns: PfnArray) -> None:
        """Unmaps those that are still mapped."""
        iovas = self._pages.forget_iovas(pfns)
        self._unmap_iovas(iovas)
        self.counters.atomics += len(iovas) * self._dma_tracking

    def _sync_for_device(self, pfns: PfnArray) -> None:
        """The whole buffer: the pool does not know how much the device wrote."""
        if not self._sync or not len(pfns):
            return
        self.counters.syncs_for_device += len(pfns)
        iovas = self._pages.iovas(pfns) + np.uint64(self._config.headroom)
        self._dma.sync_for_device(iovas, constant(self._config.buffer_bytes, len(pfns)))
