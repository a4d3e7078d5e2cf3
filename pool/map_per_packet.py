# SPDX-License-Identifier: MIT
"""``map_per_packet``: one page, one map and one unmap for every packet.

Whose: nobody's proposal; it is what drivers did before they recycled pages, and what the DMA API's
documentation describes. The discussion of April 2016 measures everything against it.

How: taking allocates a page and maps it; when the device has filled it, it is unmapped before
anybody reads; giving it back frees it. A buffer that was never filled is unmapped when given back.

Where it breaks: an IOVA, a page-table update and, under a strict IOMMU, an invalidation per packet,
far beyond the 67 ns of a small frame at 10 Gb/s. In return the device reaches a page only while it
is posted: with strict invalidation nothing else comes close in safety.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.buffers import NO_IOVA, BufferBatch, PfnArray
from pool.guarantees import Guarantees
from pool.interface import BufferPool, Context, DmaApi, PageAllocator, PoolConfig
from pool.pages import PageRecords


class MapPerPacket(BufferPool):
    """No pool at all behind the pool interface."""

    name: ClassVar[str] = "map_per_packet"
    guarantees = Guarantees()

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        self._pages = PageRecords(self.name, dma.domain)

    def take(self, n: int) -> BufferBatch:
        """``n`` single-page allocations and maps. See :meth:`BufferPool.take`."""
        self._check_open()
        pfns, iovas = self._map(self._alloc_singly(n))
        self.counters.allocations += len(pfns)
        self._pages.set_iovas(pfns, iovas)
        self._pages.lend(pfns)
        self.counters.taken += len(pfns)
        return self._batch(pfns, iovas)

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Unmaps, which also makes the bytes the CPU's; the batch comes back without addresses."""
        del lengths  # an unmap hands over the whole mapping
        self._unmap(batch.pfns)
        gone = np.full(len(batch), NO_IOVA, np.uint64)
        return replace(batch, iovas=gone)

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Frees the pages, after an unmap if they were not received."""
        del context  # there is no store whose lock it could spare
        self._pages.take_back(batch)
        self._unmap(batch.pfns)
        self.counters.given += len(batch)
        self.counters.released += len(batch)
        self.counters.atomics += len(batch)  # put_page()
        self._allocator.free_pages(batch.pfns)

    def close(self) -> int:
        """Nothing is kept, so nothing is released. See :meth:`BufferPool.close`."""
        self._closing = True
        return self.counters.inflight

    def _alloc_singly(self, n: int) -> PfnArray:
        """Counted as one allocator call a page, although the batch is asked for at once."""
        pfns = self._allocator.alloc_pages(n)
        self.counters.single_calls += n
        return pfns

    def _unmap(self, pfns: PfnArray) -> None:
        self._unmap_iovas(self._pages.forget_iovas(pfns))
