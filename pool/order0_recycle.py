# SPDX-License-Identifier: MIT
"""``order0_recycle``: single pages, kept by reference until the stack has let go of them.

Whose: Eric Dumazet (thread row T5): with single pages and the recycle trick a driver hardly ever
allocates, and a packet that waits pins one page, not a block of eight. The form is that of mlx5's
page cache of the same year.

How: when the device has filled a page the driver takes a reference for the stack and remembers the
page in a FIFO of ``pool_size``. Refilling looks at the oldest: if the stack has dropped its
reference the page is posted again, mapped as it was; if not, a page is allocated instead and the
oldest is looked at again next time. A page for which the FIFO has no room goes to the stack
for good, unmapped. Two atomics for a page that is kept, one for a page that is not.

Where it breaks: one packet that waits long at the head of the FIFO stops all recycling behind it;
then the FIFO fills, and every packet costs an allocation, a map and an unmap. Pages kept stay
mapped while the stack reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.buffers import NO_IOVA, BufferBatch, PfnArray
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import KeptPages


@dataclass(slots=True)
class Order0RecycleCounters(PoolCounters):
    """What refilling found."""

    reused: int = 0
    """Buffers taken from the FIFO."""
    busy: int = 0
    """Refills that stopped at a page which the stack still held."""
    fifo_full: int = 0
    """Received pages given up because the FIFO had no room."""


class Order0Recycle(KeptPages):
    """A FIFO of ``pool_size`` pages whose packets may still be read."""

    name: ClassVar[str] = "order0_recycle"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    counters: Order0RecycleCounters

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        self.counters = Order0RecycleCounters()
        self._fifo = np.zeros(config.pool_size, np.int64)
        self._head = self._tail = 0
        self._owned = np.zeros(0, np.bool_)

    def take(self, n: int) -> BufferBatch:
        """The oldest pages that are free again, then pages allocated singly."""
        self._check_open()
        pfns = self._oldest_free(n)
        self._sync_for_device(pfns)
        if len(pfns) < n:
            pfns = np.concatenate((pfns, self._alloc_owned(n - len(pfns))))
        return self._lend(pfns)

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Syncs for the CPU; keeps each page by a reference, or unmaps it if there is no room."""
        batch = super().receive(batch, lengths)
        self._pages.set_received(batch)
        kept = 0 if self._closing else self._keep(batch.pfns)
        self.counters.atomics += kept
        self.counters.fifo_full += len(batch) - kept
        given_up = batch.pfns[kept:]
        self._owned[given_up] = False
        self._unmap_iovas(self._pages.forget_iovas(given_up))
        mapped = np.arange(len(batch)) < kept
        return replace(batch, iovas=np.where(mapped, batch.iovas, np.uint64(NO_IOVA)))

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Received: the stack's put_page(). Unused: kept for the next refill."""
        del context  # a reference count is dropped alike everywhere
        received = self._pages.take_back(batch)
        self.counters.given += len(batch)
        self._put(batch.pfns[received])
        unused = batch.pfns[~received]
        self._leave(unused[0 if self._closing else self._keep(unused) :])

    def close(self) -> int:
        """Unmaps what is in the FIFO and drops the driver's references."""
        self._closing = True
        pfns = self._fifo[np.arange(self._head, self._tail) % len(self._fifo)]
        self._head = self._tail
        held = self._pages.are_received(pfns)
        self._owned[pfns] = False
        self._unmap_iovas(self._pages.forget_iovas(pfns[held]))
        self.counters.atomics += int(np.count_nonzero(held))
        self._leave(pfns[~held])
        return self.counters.inflight

    def _oldest_free(self, n: int) -> PfnArray:
        """Takes up to ``n`` from the head of the FIFO, up to the first that the stack holds."""
        places = np.arange(self._head, min(self._head + n, self._tail)) % len(self._fifo)
        pfns = self._fifo[places]
        held = self._pages.are_received(pfns)
        if held.any():
            self.counters.busy += 1
            pfns = pfns[: int(held.argmax())]
        self._head += len(pfns)
        self.counters.reused += len(pfns)
        return pfns

    def _keep(self, pfns: PfnArray) -> int:
        """Appends what fits to the FIFO; returns how many."""
        count = min(len(pfns), len(self._fifo) - (self._tail - self._head))
        self._fifo[np.arange(self._tail, self._tail + count) % len(self._fifo)] = pfns[:count]
        self._tail += count
        self.counters.recycled_cache += count
        return count

    def _put(self, pfns: PfnArray) -> None:
        """The stack drops its references; pages that only it had are freed."""
        kept = self._owned[pfns]
        self.counters.atomics += int(np.count_nonzero(kept))
        if not kept.all():
            self._free(pfns[~kept])

    def _alloc_owned(self, n: int) -> PfnArray:
        pfns = self._alloc_singly(n)
        need = int(pfns.max(initial=-1)) + 1
        if need > len(self._owned):
            more = max(need, 2 * len(self._owned)) - len(self._owned)
            self._owned = np.append(self._owned, np.zeros(more, np.bool_))
        self._owned[pfns] = True
        return pfns
