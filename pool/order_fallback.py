# SPDX-License-Identifier: MIT
"""``order_fallback``: buffers cut out of blocks of eight pages, or of less when memory is split.

Whose: mlx4's, described by Jesper Dangaard Brouer (thread row T4). Eric Dumazet names the price
(T5): a packet that waits pins its whole block and tells the socket of its own fragment only.

How: the driver asks for a block of order 3, maps it once, and hands out the buffers in it one after
the other; references for all of them are added at once, and the stack drops one each. When no such
block is to be had it tries order 2, 1 and 0, each refusal a trip through the allocator's slow path.
The block is unmapped when the device is done with its last buffer, and freed with the last
reference. So per block: an allocation, a map, an unmap and an atomic; per packet one atomic.

Where it breaks: fragmented memory makes each refill search four times and shrinks what a
map is shared by; the device reaches all packets of a block until the last buffer of it is
filled; and a sender who keeps one packet in eight pages waiting pins far more than is accounted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.blocks import Blocks, stride_of
from pool.buffers import NO_IOVA, BufferBatch, PfnArray, constant
from pool.guarantees import Guarantees
from pool.interface import BufferPool, Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.pages import PageRecords

PREFER_ORDER = 3
"""MLX4_EN_ALLOC_PREFER_ORDER for 4 KiB pages: the highest order the allocator calls cheap."""


@dataclass(slots=True)
class OrderFallbackCounters(PoolCounters):
    """Where the blocks came from."""

    blocks: list[int] = field(default_factory=lambda: [0] * (PREFER_ORDER + 1))
    """Blocks allocated, by order."""
    failed_attempts: int = 0
    """Allocator calls that found no block of the order asked for."""


class OrderFallback(BufferPool):
    """prefer_order: of the blocks asked for first."""

    name: ClassVar[str] = "order_fallback"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, shares_mapping=True)
    counters: OrderFallbackCounters

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        prefer_order: int = PREFER_ORDER,
    ) -> None:
        super().__init__(allocator, dma, config)
        self.counters = OrderFallbackCounters(blocks=[0] * (prefer_order + 1))
        self._prefer = prefer_order
        self._stride = stride_of(config.headroom, config.buffer_bytes)
        self._blocks = Blocks(self._stride, config.headroom, prefer_order)
        self._pages = PageRecords(self.name, dma.domain, self._stride)
        self._fresh = np.zeros(0, np.int64)  # codes not handed out yet, in order
        self._refs = np.zeros(0, np.int64)  # by first frame: buffers not given back

    @property
    def truesize(self) -> int:
        """The fragment alone, as the driver of 2016 accounts it."""
        return self._stride

    def take(self, n: int) -> BufferBatch:
        """Goes on in the open block, then in new ones. See :meth:`BufferPool.take`."""
        self._check_open()
        if len(self._fresh) < n:
            self._fresh = np.concatenate((self._fresh, *self._new_blocks(n - len(self._fresh))))
        codes, self._fresh = self._fresh[:n], self._fresh[n:]
        batch = self._blocks.batch(codes, self._config.buffer_bytes, self._dma.domain)
        self._pages.lend_buffers(batch)
        self.counters.taken += len(batch)
        return batch

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Syncs for the CPU; unmaps the blocks whose last buffer this is."""
        self.counters.syncs_for_cpu += len(batch)
        self._dma.sync_for_cpu(batch.iovas, lengths)
        self._pages.set_received(batch)
        firsts = self._blocks.firsts(self._blocks.codes(batch))
        self._device_done(firsts)
        mapped = self._blocks.away[firsts] > 0
        return replace(batch, iovas=np.where(mapped, batch.iovas, np.uint64(NO_IOVA)))

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Drops a reference each, wherever; nothing is posted a second time."""
        del context
        received = self._pages.take_back(batch)
        self.counters.given += len(batch)
        self.counters.atomics += len(batch)
        firsts = self._blocks.firsts(self._blocks.codes(batch))
        self._device_done(firsts[~received])
        self._put(firsts)

    def close(self) -> int:
        """Drops the open blocks' buffers that were never handed out."""
        self._closing = True
        firsts, self._fresh = self._blocks.firsts(self._fresh), self._fresh[:0]
        self._device_done(firsts)
        self._put(firsts)
        return self.counters.inflight

    def _new_blocks(self, need: int) -> list[NDArray[np.int64]]:
        """Codes of new blocks with at least ``need`` buffers, or of all there are."""
        found = []
        for order in range(self._prefer, -1, -1):
            per_block = self._blocks.per_block(order)
            want = max(0, -(-need // per_block))
            if not want:
                break
            firsts = self._allocator.alloc_pages(want, order)
            self.counters.single_calls += want
            self.counters.failed_attempts += want - len(firsts)
            firsts, iovas = self._map(firsts, order)
            found.append(self._enter(firsts, self._blocks.add(firsts, iovas, order), order))
            need -= len(found[-1])
        return found

    def _enter(self, firsts: PfnArray, codes: NDArray[np.int64], order: int) -> NDArray[np.int64]:
        blocks = self._blocks
        self._refs = np.append(self._refs, np.zeros(len(blocks.away) - len(self._refs), np.int64))
        blocks.away[firsts] = self._refs[firsts] = blocks.per_block(order)
        self.counters.blocks[order] += len(firsts)
        self.counters.allocations += len(firsts) << order
        self.counters.atomics += len(firsts)  # the references of all buffers, added at once
        if self._config.sync and len(codes):
            self.counters.syncs_for_device += len(codes)
            length = self._config.buffer_bytes
            iovas = blocks.batch(codes, length, self._dma.domain).iovas
            self._dma.sync_for_device(iovas, constant(length, len(codes)))
        return codes

    def _device_done(self, firsts: PfnArray) -> None:
        """The device will not touch one buffer of each of ``firsts`` (repeated) any more."""
        np.subtract.at(self._blocks.away, firsts, 1)
        done = np.unique(firsts[self._blocks.away[firsts] == 0])
        for order, ended in self._blocks.leave(done):
            self._unmap_iovas(self._blocks.iova[ended], order)

    def _put(self, firsts: PfnArray) -> None:
        np.subtract.at(self._refs, firsts, 1)
        for order, ended in self._blocks.leave(np.unique(firsts[self._refs[firsts] == 0])):
            self.counters.released += len(ended) << order
            self._allocator.free_pages(ended, order)
