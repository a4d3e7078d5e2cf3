# SPDX-License-Identifier: MIT
"""``half_page_flip``: each half of a page in turn, as long as the stack has left the other.

Whose: the Intel drivers (igb, ixgbe, i40e), brought to the thread by Jesper Dangaard Brouer and
Eric Dumazet (row T3) as what a pool has to beat.

How: the driver keeps a reference to each of its pages. When the device has filled one half, the
driver takes a reference for the stack and posts the other half next: allowed while the page has no
third user, so ``page_count <= 2`` with the reference just taken. Otherwise the page is unmapped and
the driver's reference goes to the stack with the packet. So two atomics a packet: the driver's
increment and the stack's ``put_page``; a page that cannot be flipped costs only the latter.

Where it breaks: the stack must be done with one half before the device has filled the other, so
slow consumers turn every flip into an unmap, an allocation and a map. Both halves share a mapping:
the device can write to the half that the stack reads. With pages of 8 KiB and more a half wastes
most of its bytes, and the drivers do something else there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.buffers import NO_IOVA, PAGE_SIZE, BufferBatch, IovaArray, PfnArray, constant
from pool.errors import PoolError
from pool.guarantees import Guarantees
from pool.interface import BufferPool, Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import PageStack
from pool.pages import PageRecords

HALF = PAGE_SIZE // 2


@dataclass(slots=True)
class HalfPageFlipCounters(PoolCounters):
    """How the flips went: their sum is the number of buffers received."""

    flips: int = 0
    """Halves received whose page was kept, the other half next."""
    failed_flips: int = 0
    """Halves received whose page had to be given up: the other half was still in use."""


class HalfPageFlip(BufferPool):
    """Buffers are at most half a page, headroom included: a batch's ``lengths`` say how long.

    Raises:
        PoolError: the headroom fills the half.
    """

    name: ClassVar[str] = "half_page_flip"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, shares_mapping=True)
    counters: HalfPageFlipCounters

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        if config.headroom >= HALF:
            raise PoolError(f"headroom {config.headroom}: {self.name} needs less than {HALF}")
        super().__init__(allocator, dma, config)
        self.counters = HalfPageFlipCounters()
        self._length = min(config.buffer_bytes, HALF - config.headroom)
        self._pages = PageRecords(self.name, dma.domain, HALF)
        self._ready = PageStack(config.pool_size)  # 2 * frame + half
        self._stack_refs = np.zeros(0, np.int64)
        self._owned = np.zeros(0, np.bool_)

    @property
    def truesize(self) -> int:
        """Half a page."""
        return HALF

    def take(self, n: int) -> BufferBatch:
        """Flipped halves, then first halves of pages allocated singly."""
        self._check_open()
        halves = self._ready.pop(n)
        if len(halves) < n:
            halves = np.concatenate((halves, 2 * self._alloc(n - len(halves))))
        batch = self._halves(halves >> 1, halves & 1)
        self._pages.lend_buffers(batch)
        self.counters.taken += len(batch)
        return batch

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Syncs for the CPU, then flips each page or gives it up: that is unmapped."""
        self.counters.syncs_for_cpu += len(batch)
        self._dma.sync_for_cpu(batch.iovas, lengths)
        self._pages.set_received(batch)
        can = (self._stack_refs[batch.pfns] == 0) & (not self._closing)
        self._stack_refs[batch.pfns] += 1  # no page is in a batch twice: only one half is posted
        flipped = int(np.count_nonzero(can))
        self.counters.flips += flipped
        self.counters.atomics += flipped
        self.counters.failed_flips += len(batch) - flipped
        self._make_ready(batch.pfns[can], 1 - _half(batch[can]))
        self._owned[batch.pfns[~can]] = False
        self._unmap_iovas(self._pages.forget_iovas(batch.pfns[~can]))
        return replace(batch, iovas=np.where(can, batch.iovas, np.uint64(NO_IOVA)))

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Received: the stack's put_page(), wherever. Unused: the half is posted again."""
        del context  # a reference count is dropped alike everywhere
        received = self._pages.take_back(batch)
        self.counters.given += len(batch)
        self._put(batch.pfns[received])
        unused = batch[~received]
        if self._closing:
            self._give_up(unused.pfns)
        else:
            self._make_ready(unused.pfns, _half(unused))

    def close(self) -> int:
        """Gives up the pages of all ready halves. See :meth:`BufferPool.close`."""
        self._closing = True
        self._give_up(self._ready.pop(len(self._ready)) >> 1)
        return self.counters.inflight

    def _alloc(self, n: int) -> PfnArray:
        self.counters.single_calls += n
        pfns, iovas = self._map(self._allocator.alloc_pages(n))
        self._pages.set_iovas(pfns, iovas)
        more = max(0, int(pfns.max(initial=-1)) + 1 - len(self._owned))
        more = max(more, len(self._owned)) if more else 0
        self._owned = np.append(self._owned, np.zeros(more, np.bool_))
        self._stack_refs = np.append(self._stack_refs, np.zeros(more, np.int64))
        self._owned[pfns] = True
        self.counters.allocations += len(pfns)
        self._sync_for_device(iovas + np.uint64(self._config.headroom))
        return pfns

    def _make_ready(self, pfns: PfnArray, half: NDArray[np.int64]) -> None:
        if len(pfns):
            self._sync_for_device(self._halves(pfns, half).iovas)
            self._ready.push(2 * pfns + half)

    def _give_up(self, pfns: PfnArray) -> None:
        """Unmaps and drops the driver's reference."""
        if not len(pfns):
            return
        self._unmap_iovas(self._pages.forget_iovas(pfns))
        self._owned[pfns] = False
        self.counters.atomics += len(pfns)
        self._free(pfns[self._stack_refs[pfns] == 0])

    def _put(self, pfns: PfnArray) -> None:
        """The stack drops references; pages nobody else has are freed."""
        self.counters.atomics += len(pfns)
        np.subtract.at(self._stack_refs, pfns, 1)
        self._free(np.unique(pfns[(self._stack_refs[pfns] == 0) & ~self._owned[pfns]]))

    def _free(self, pfns: PfnArray) -> None:
        if len(pfns):
            self.counters.released += len(pfns)
            self._allocator.free_pages(pfns)

    def _halves(self, pfns: PfnArray, half: NDArray[np.int64]) -> BufferBatch:
        """Buffers in the given half (0 or 1) of mapped pages."""
        headroom, starts = self._config.headroom, half * HALF
        whole = BufferBatch.uniform(
            pfns,
            self._pages.iovas(pfns) + (starts + headroom).astype(np.uint64),
            length=self._length,
            offset=0,
            headroom=headroom,
            domain=self._dma.domain,
        )
        return replace(whole, offsets=starts + headroom)

    def _sync_for_device(self, iovas: IovaArray) -> None:
        if self._config.sync and len(iovas):
            self.counters.syncs_for_device += len(iovas)
            self._dma.sync_for_device(iovas, constant(self._length, len(iovas)))


def _half(batch: BufferBatch) -> NDArray[np.int64]:
    return (batch.offsets - batch.headrooms) // HALF
