# SPDX-License-Identifier: MIT
"""``pcp_constructor``: the page allocator's per-CPU lists, of pages that are born mapped.

Whose: Mel Gorman (thread row T8): order-0 pages need no second recycler, the per-CPU lists are one;
what is worth keeping is the mapping. So split the per-CPU allocator off and give it a constructor
that maps and a destructor that unmaps.

How: each CPU has a list. Taking pops the own CPU's; when empty, ``BATCH`` pages come from the buddy
lists under the zone lock and the constructor maps them. ``put_page`` pushes a page to the list
of the CPU that frees it; a list longer than ``pool_size`` returns its ``BATCH`` coldest pages to
the buddy lists, through the destructor. So a page that is freed where it was allocated costs one
atomic, the ``put_page``, and neither a map nor a lock.

Where it breaks: when one CPU receives and another frees, mapped pages pile up where nobody takes
them: the one list maps, the other unmaps, for every packet, only in batches. Pages on the lists
stay mapped, and so do those the stack reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pool.buffers import BufferBatch
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import KeptPages, PageStack

BATCH = 63
"""Pages moved under one zone lock: zone_batchsize() for all but small zones."""


@dataclass(slots=True)
class PcpConstructorCounters(PoolCounters):
    """Traffic with the buddy lists; each counts as an atomic, the zone lock."""

    refills: int = 0
    """Batches from the buddy lists to a CPU's list."""
    drains: int = 0
    """Batches from a CPU's list to the buddy lists."""


class PcpConstructor(KeptPages):
    """The lists of two CPUs: that of the queue, and one other that frees (``Context.REMOTE``)."""

    name: ClassVar[str] = "pcp_constructor"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    counters: PcpConstructorCounters

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        self.counters = PcpConstructorCounters()
        self._here, self._elsewhere = PageStack(config.pool_size), PageStack(config.pool_size)

    def take(self, n: int) -> BufferBatch:
        """Pops the queue's CPU's list, refilled a batch at a time."""
        self._check_open()
        parts = [self._here.pop(n)]
        missing = n - len(parts[0])
        while missing:
            self.counters.refills += 1
            self.counters.atomics += 1
            pfns = self._alloc_bulk(BATCH)
            if not len(pfns):
                break
            self._here.push(pfns[::-1])
            parts.append(self._here.pop(missing))
            missing -= len(parts[-1])
        return self._lend(np.concatenate(parts))

    def give(self, batch: BufferBatch, context: Context) -> None:
        """put_page(): to the list of the CPU that frees, drained when it is too long."""
        self._pages.take_back(batch)
        self.counters.given += len(batch)
        self.counters.atomics += len(batch)
        self._sync_for_device(batch.pfns)
        pcp = self._elsewhere if context is Context.REMOTE else self._here
        pcp.push(batch.pfns)
        self.counters.recycled_cache += len(batch)
        limit = 0 if self._closing else self._config.pool_size
        while len(pcp) > limit:
            self._drain(pcp)

    def close(self) -> int:
        """Drains both lists. See :meth:`BufferPool.close`."""
        self._closing = True
        for pcp in (self._here, self._elsewhere):
            while len(pcp):
                self._drain(pcp)
        return self.counters.inflight

    def _drain(self, pcp: PageStack) -> None:
        """The coldest batch, through the destructor; nobody refers to the pages any more."""
        pfns = pcp.drop_oldest(BATCH)
        self.counters.drains += 1
        self.counters.atomics += 1
        self._unmap_iovas(self._pages.forget_iovas(pfns))
        self.counters.released += len(pfns)
        self._allocator.free_pages(pfns)
