# SPDX-License-Identifier: MIT
"""What strategies share that hand out whole pages and map each when it enters the pool.

:class:`KeptPages` knows how a page enters, is lent and leaves, and counts it. Where pages wait in
between, and when they leave, is what a strategy adds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pool.buffers import BufferBatch, PfnArray, constant
from pool.interface import BufferPool, DmaApi, PageAllocator, PoolConfig
from pool.pages import PageRecords


class PageStack:
    """Frames, last in first out, in an array that grows when it must."""

    def __init__(self, capacity: int = 64) -> None:
        self._frames = np.zeros(capacity, np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, pfns: PfnArray) -> None:
        """Puts ``pfns`` on top, the last of them topmost."""
        if self._count + len(pfns) > len(self._frames):
            self._frames = np.append(self._frames, np.zeros(self._count + len(pfns), np.int64))
        self._frames[self._count : self._count + len(pfns)] = pfns
        self._count += len(pfns)

    def pop(self, limit: int) -> PfnArray:
        """int64[k], k <= limit: from the top down."""
        count = min(limit, self._count)
        self._count -= count
        return self._frames[self._count : self._count + count][::-1].copy()

    def drop_oldest(self, count: int) -> PfnArray:
        """int64[k], k <= count: from the bottom up."""
        count = min(count, self._count)
        oldest = self._frames[:count].copy()
        self._frames[: self._count - count] = self._frames[count : self._count].copy()
        self._count -= count
        return oldest


class KeptPages(BufferPool):
    """Base: one buffer a page, mapped from entering the pool to leaving it."""

    def __init__(
        self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig, domain: int | None = None
    ) -> None:
        super().__init__(allocator, dma, config)
        self._pages = PageRecords(self.name, dma.domain if domain is None else domain)

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Syncs for the CPU; the mapping stays."""
        self.counters.syncs_for_cpu += len(batch)
        self._dma.sync_for_cpu(batch.iovas, lengths)
        return batch

    def _alloc_singly(self, n: int) -> PfnArray:
        """``n`` calls for one page each; returns the pages that could be had and mapped."""
        self.counters.single_calls += n
        return self._enter(self._allocator.alloc_pages(n)) if n else np.zeros(0, np.int64)

    def _alloc_bulk(self, n: int) -> PfnArray:
        """One call for ``n`` pages; returns those that could be had and mapped."""
        self.counters.bulk_calls += 1
        return self._enter(self._allocator.alloc_pages(n))

    def _enter(self, pfns: PfnArray) -> PfnArray:
        pfns, iovas = self._map(pfns)
        self._pages.set_iovas(pfns, iovas)
        self.counters.allocations += len(pfns)
        self._sync_for_device(pfns)
        return pfns

    def _lend(self, pfns: PfnArray) -> BufferBatch:
        self._pages.lend(pfns)
        self.counters.taken += len(pfns)
        return self._batch(pfns, self._pages.iovas(pfns))

    def _leave(self, pfns: PfnArray) -> None:
        """Unmaps what is mapped, and drops the last reference to each page."""
        if len(pfns):
            self._unmap_iovas(self._pages.forget_iovas(pfns))
            self._free(pfns)

    def _free(self, pfns: PfnArray) -> None:
        """put_page() of each: one atomic decrement."""
        self.counters.released += len(pfns)
        self.counters.atomics += len(pfns)
        self._allocator.free_pages(pfns)

    def _sync_for_device(self, pfns: PfnArray) -> None:
        """The whole buffer: the pool does not know how much the device wrote."""
        if not self._config.sync or not len(pfns):
            return
        self.counters.syncs_for_device += len(pfns)
        iovas = self._pages.iovas(pfns) + np.uint64(self._config.headroom)
        self._dma.sync_for_device(iovas, constant(self._config.buffer_bytes, len(pfns)))
