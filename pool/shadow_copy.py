# SPDX-License-Identifier: MIT
"""``shadow_copy``: the device gets permanently mapped buffers, the stack gets copies.

Whose: Alex Markuze, Adam Morrison and Dan Tsafrir, "True IOMMU protection from DMA attacks: when
copy is faster than zero copy" (ASPLOS 2016), published in the very month of the discussion.

How: shadow pages are mapped once and hold nothing but packets. A received packet is copied to a
private page that was never mapped, and its shadow can be posted again at once. Neither a map nor
an unmap nor an invalidation per packet, and the device never reaches a byte the stack reads: the
only strategy here that is safe byte by byte without an unmap. The private page is set aside when
the shadow is posted, so that receiving cannot fail.

Where it breaks: the copy, and it grows with the packet: cheap for 64 bytes, not for 9000. Twice
the memory for every posted buffer, and an allocation and a ``put_page`` per packet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.buffers import NO_IOVA, BufferBatch
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import KeptPages, PageStack
from pool.ports import CopyPages, missing_port


@dataclass(slots=True)
class ShadowCopyCounters(PoolCounters):
    """The price; ``copies`` counts the packets."""

    bytes_copied: int = 0
    """Bytes from shadow to private pages."""
    unreserved: int = 0
    """Buffers not handed out because there was no private page to go with them."""


class ShadowCopy(KeptPages):
    """Shadows grow to what the device ever had posted at one time.

    Raises:
        MissingPortError: the allocator cannot copy.
    """

    name: ClassVar[str] = "shadow_copy"
    guarantees = Guarantees(mapped_in_store=True)
    counters: ShadowCopyCounters

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        self.counters = ShadowCopyCounters()
        if not isinstance(allocator, CopyPages):
            raise missing_port(allocator, CopyPages, self.name)
        self._copier: CopyPages = allocator
        self._shadows = PageStack(config.pool_size)
        self._private = PageStack(config.pool_size)  # one for each shadow that is posted

    def take(self, n: int) -> BufferBatch:
        """Shadows, each with a private page set aside."""
        self._check_open()
        n = self._reserve(n)
        pfns = self._shadows.pop(n)
        if len(pfns) < n:
            pfns = np.concatenate((pfns, self._alloc_singly(n - len(pfns))))
            self._unreserve(n - len(pfns))
        return self._lend(pfns)

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Copies ``lengths[i]`` bytes each; the batch comes back in private pages, unmapped."""
        if not len(batch):
            return batch
        super().receive(batch, lengths)
        pfns = self._private.pop(len(batch))
        gone = np.full(len(batch), NO_IOVA, np.uint64)
        private = replace(batch, pfns=pfns, iovas=gone)
        self._copier.copy_bytes(batch.memory, private.memory, lengths)
        self.counters.copies += len(batch)
        self.counters.bytes_copied += int(lengths.sum())
        self._pages.take_back(batch)
        self._pages.lend(pfns)
        self._pages.set_received(private)
        self._shadows_home(batch)
        return private

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Private pages are freed; unused shadows are kept, and their private pages freed."""
        del context
        received = self._pages.take_back(batch)
        self.counters.given += len(batch)
        if received.any():
            self._free(batch.pfns[received])
        unused = batch[~received]
        self._unreserve(len(unused))
        self._shadows_home(unused)

    def close(self) -> int:
        """Unmaps and frees the shadows that are home."""
        self._closing = True
        self._leave(self._shadows.pop(len(self._shadows)))
        return self.counters.inflight

    def _reserve(self, n: int) -> int:
        """Sets up to ``n`` private pages aside."""
        pfns = self._allocator.alloc_pages(n)
        self.counters.single_calls += n
        self.counters.unreserved += n - len(pfns)
        self.counters.allocations += len(pfns)
        self._pages.set_iovas(pfns, np.full(len(pfns), NO_IOVA, np.uint64))
        self._private.push(pfns)
        return len(pfns)

    def _unreserve(self, n: int) -> None:
        if n:
            self._free(self._private.pop(n))

    def _shadows_home(self, batch: BufferBatch) -> None:
        if self._closing:
            self._leave(batch.pfns)
            return
        self._sync_for_device(batch.pfns)
        self._shadows.push(batch.pfns)
        self.counters.recycled_cache += len(batch)
