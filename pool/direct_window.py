# SPDX-License-Identifier: MIT
"""``direct_window``: all memory mapped once; a map is a sum and an unmap is nothing.

Whose: Thadeu Lima de Souza Cascardo for Power (thread row T12): enlarge the device's DMA window
until it holds all memory, map that when the driver probes, and never talk to the hypervisor again.

How: :class:`DirectWindow` maps the allocator's whole span as one range. A buffer's DMA address is
the window's start plus where its page lies. Pages come from the page allocator one by one and go
back there with ``put_page``: nothing is worth keeping when mapping is free.

Where it breaks: it is the IOMMU of no use. The device reaches every byte of memory, at all times:
before a buffer is posted, after it was freed, and what was never a buffer. It also needs a window
as large as memory, which not every platform has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.buffers import PAGE_SHIFT, BufferBatch, IovaArray, PfnArray
from pool.errors import PoolError
from pool.guarantees import Guarantees
from pool.interface import BufferPool, Context, Direction, DmaApi, PageAllocator, PoolConfig
from pool.pages import PageRecords
from pool.ports import RangeDma, SpanPages, missing_port


class DirectWindow:
    """All of ``allocator``'s memory, mapped for the device of ``dma`` until :meth:`close`.

    Raises:
        MissingPortError: the allocator has no span or the DMA API no ranges.
        PoolError: the DMA API refused the range.
    """

    def __init__(self, allocator: object, dma: object, direction: Direction) -> None:
        if not isinstance(dma, RangeDma):
            raise missing_port(dma, RangeDma, "direct_window")
        if not isinstance(allocator, SpanPages):
            raise missing_port(allocator, SpanPages, "direct_window")
        self._dma: RangeDma = dma
        self._first, self.pages = allocator.span
        iova = self._dma.map_range(self._first, self.pages, direction)
        if iova is None:
            raise PoolError(
                f"direct_window: no IOVA range for {self.pages} pages; "
                "the window must be as large as memory: enlarge it or choose another strategy"
            )
        self._iova = iova

    def iovas(self, pfns: PfnArray) -> IovaArray:
        """uint64[n]: what replaces a map."""
        iovas: IovaArray = (((pfns - self._first) << PAGE_SHIFT) + self._iova).astype(np.uint64)
        return iovas

    def close(self) -> None:
        """Unmaps everything: when the driver is removed."""
        self._dma.unmap_range(self._iova, self.pages)


class DirectWindowPool(BufferPool):
    """window: of the device, shared by its queues; without one the pool makes and ends its own."""

    name: ClassVar[str] = "direct_window"
    guarantees = Guarantees(
        mapped_while_read=True,
        mapped_in_store=True,
        mapped_when_free=True,
        shares_mapping=True,
        reaches_everything=True,
    )

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        window: DirectWindow | None = None,
    ) -> None:
        super().__init__(allocator, dma, config)
        self._pages = PageRecords(self.name, dma.domain)
        self._window = window or DirectWindow(allocator, dma, config.direction)
        self._own = None if window else self._window
        self.guarantees = replace(self.guarantees, mapped_after_close=window is not None)
        if self._own:
            self.counters.maps += 1
            self.counters.mapped_pages += self._own.pages

    def take(self, n: int) -> BufferBatch:
        """``n`` single-page allocations and sums. See :meth:`BufferPool.take`."""
        self._check_open()
        pfns = self._allocator.alloc_pages(n)
        self.counters.single_calls += n
        self.counters.allocations += len(pfns)
        self.counters.taken += len(pfns)
        self._pages.reach(pfns)
        self._pages.lend(pfns)
        return self._batch(pfns, self._window.iovas(pfns))

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Syncs for the CPU; the device reaches the buffer as it reaches everything."""
        self.counters.syncs_for_cpu += len(batch)
        self._dma.sync_for_cpu(batch.iovas, lengths)
        return batch

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Frees the pages, which stay within reach."""
        del context
        self._pages.take_back(batch)
        self.counters.given += len(batch)
        self.counters.released += len(batch)
        self.counters.atomics += len(batch)  # put_page()
        self._allocator.free_pages(batch.pfns)
        self._end_window()

    def close(self) -> int:
        """Ends the pool's own window once nothing is out. See :meth:`BufferPool.close`."""
        self._closing = True
        self._end_window()
        return self.counters.inflight

    def _end_window(self) -> None:
        if self._own and self.closed:
            self._own.close()
            self.counters.unmaps += 1
            self.counters.unmapped_pages += self._own.pages
            self._own = None
