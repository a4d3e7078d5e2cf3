# SPDX-License-Identifier: MIT
"""``zero_copy_domain``: pages of one application, filled by its own queue, never anybody else's.

Whose: Jesper Dangaard Brouer (thread row T16): zero-copy receive is safe when the NIC steers the
application's flow to a queue of its own, and every page carries the id of the domain it may be
shown to, checked whenever a page comes home.

How: the application registers ``pool_size`` pages; they are mapped once. Buffers go from a free
list to the device and, uncopied, to the application, which returns them through a refill ring that
it shares with the driver: one producer, one consumer, no atomic. A page whose ``domains`` entry
is not the pool's id is refused with the whole batch, so a page cannot cross from one application to
another even when both live on the same device and in the same IOMMU domain.

Where it breaks: it needs a filter in the NIC, for without one a stranger's packets land in the
application's memory. An application that does not return pages starves its queue, by design
(``starved``). The device can write to what the application reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pool.buffers import BufferBatch
from pool.errors import WrongDomainError
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import KeptPages, PageStack


@dataclass(slots=True)
class ZeroCopyDomainCounters(PoolCounters):
    """``copies`` stays 0: that is the point."""

    refused: int = 0
    """Buffers of batches refused for a page of another domain."""
    starved: int = 0
    """Buffers asked for while the application had all of its pages."""


class ZeroCopyDomain(KeptPages):
    """cross_domain: id that buffers carry instead of the IOMMU domain's; default that one."""

    name: ClassVar[str] = "zero_copy_domain"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    counters: ZeroCopyDomainCounters

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        cross_domain: int | None = None,
    ) -> None:
        self._cross_domain = dma.domain if cross_domain is None else cross_domain
        super().__init__(allocator, dma, config, self._cross_domain)
        self.counters = ZeroCopyDomainCounters()
        self._home = PageStack(config.pool_size)
        self._refill = PageStack(config.pool_size)

    @property
    def domain(self) -> int:
        """Id that a buffer must carry to be taken back."""
        return self._cross_domain

    def take(self, n: int) -> BufferBatch:
        """From the free list, then from what the application returned."""
        self._check_open()
        missing = self._config.pool_size - self.counters.inflight
        if missing:
            self._home.push(self._alloc_bulk(missing))
        if len(self._home) < n:
            self._home.push(self._refill.pop(len(self._refill)))
        pfns = self._home.pop(n)
        self.counters.starved += n - len(pfns)
        return self._lend(pfns)

    def give(self, batch: BufferBatch, context: Context) -> None:
        """From another CPU by way of the refill ring, otherwise straight to the free list.

        Raises:
            WrongDomainError: a page belongs to another application.
        """
        try:
            self._pages.take_back(batch)
        except WrongDomainError:
            self.counters.refused += len(batch)
            raise
        self.counters.given += len(batch)
        if self._closing:
            self._leave(batch.pfns)
            return
        self._sync_for_device(batch.pfns)
        remote = context is Context.REMOTE
        (self._refill if remote else self._home).push(batch.pfns)
        self.counters.recycled_ring += len(batch) * remote
        self.counters.recycled_cache += len(batch) * (not remote)

    def close(self) -> int:
        """Unregisters the pages that are home. See :meth:`BufferPool.close`."""
        self._closing = True
        for store in (self._home, self._refill):
            self._leave(store.pop(len(store)))
        return self.counters.inflight
