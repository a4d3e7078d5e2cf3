# SPDX-License-Identifier: MIT
"""``array_cache``: a small array of mapped pages that only the queue's own poll touches.

Whose: Alexei Starovoitov (thread row T2). For dropping and forwarding at line rate a recycler with
any atomic per packet is out of the question; a plain array of page and DMA address is enough.

How: taking pops the array, and allocates and maps page by page what it lacks. A page given back
by the queue's own CPU is pushed; when the array is full the page is unmapped and freed. A page is
a packet, however small, so what a packet leaves of its page is waste, and counted.

Where it breaks: another CPU must not touch the array, so what comes back from there is unmapped
and freed; traffic that goes to sockets recycles nothing and pays as without a pool. While the
stack reads, the device can still write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.buffers import PAGE_SIZE, BufferBatch
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import KeptPages, PageStack


@dataclass(slots=True)
class ArrayCacheCounters(PoolCounters):
    """What the array did, and what one page per packet costs."""

    cache_full: int = 0
    """Pages that came back on the own CPU and found no room."""
    remote_frees: int = 0
    """Pages that came back on another CPU: lost to the array."""
    bytes_wasted: int = 0
    """Bytes of received buffers' pages in which no packet was."""


class ArrayCache(KeptPages):
    """An array of ``pool_size`` pages."""

    name: ClassVar[str] = "array_cache"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    counters: ArrayCacheCounters

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        self.counters = ArrayCacheCounters()
        self._array = PageStack(config.pool_size)

    def take(self, n: int) -> BufferBatch:
        """Pops, then allocates singly. See :meth:`BufferPool.take`."""
        self._check_open()
        pfns = self._array.pop(n)
        if len(pfns) < n:
            pfns = np.concatenate((pfns, self._alloc_singly(n - len(pfns))))
        return self._lend(pfns)

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Syncs for the CPU; the mapping stays."""
        self.counters.bytes_wasted += len(batch) * PAGE_SIZE - int(lengths.sum())
        return super().receive(batch, lengths)

    def give(self, batch: BufferBatch, context: Context) -> None:
        """To the array unless the page comes from another CPU or the pool is closing."""
        self._pages.take_back(batch)
        self.counters.given += len(batch)
        pfns = batch.pfns
        if context is Context.REMOTE:
            self.counters.remote_frees += len(pfns)
        elif not self._closing:  # in teardown NAPI is off: nobody else is at the array
            room = self._config.pool_size - len(self._array)
            self.counters.cache_full += max(0, len(pfns) - room)
            self._recycle(batch[:room])
            pfns = pfns[room:]
        self._leave(pfns)

    def close(self) -> int:
        """Empties the array. See :meth:`BufferPool.close`."""
        self._closing = True
        self._leave(self._array.pop(len(self._array)))
        return self.counters.inflight

    def _recycle(self, batch: BufferBatch) -> None:
        self._sync_for_device(batch.pfns)
        self._array.push(batch.pfns)
        self.counters.recycled_cache += len(batch)
