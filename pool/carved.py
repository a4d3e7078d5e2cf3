# SPDX-License-Identifier: MIT
"""What strategies share that cut mapped blocks into buffers and keep the blocks until closed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pool.blocks import Blocks, CodeArray, stride_of
from pool.buffers import BufferBatch, IovaArray, PfnArray, constant
from pool.interface import BufferPool, DmaApi, PageAllocator, PoolConfig
from pool.kept import PageStack
from pool.pages import PageRecords


class CarvedPool(BufferPool):
    """Base: buffers by their code (:mod:`pool.blocks`); blocks of ``2**order`` pages.

    A subclass keeps the codes of buffers that are home, and empties its stores when closed.
    """

    def __init__(
        self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig, order: int
    ) -> None:
        super().__init__(allocator, dma, config)
        self._order = order
        self._stride = stride_of(config.headroom, config.buffer_bytes)
        self._blocks = Blocks(self._stride, config.headroom, order)
        self._pages = PageRecords(self.name, dma.domain, self._stride)
        self._firsts = PageStack()

    @property
    def truesize(self) -> int:
        """The buffer, rounded up to a cache line."""
        return self._stride

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Syncs for the CPU; the mapping stays."""
        self.counters.syncs_for_cpu += len(batch)
        self._dma.sync_for_cpu(batch.iovas, lengths)
        return batch

    def close(self) -> int:
        """Unmaps and frees the blocks that have all their buffers."""
        if not self._closing:
            self._closing = True
            self._empty_stores()
            firsts = self._firsts.pop(len(self._firsts))
            self._release(firsts[self._blocks.away[firsts] == 0])
        return self.counters.inflight

    def _empty_stores(self) -> None:
        raise NotImplementedError

    def _grow(self, blocks: int) -> CodeArray:
        """Allocates and maps up to ``blocks`` blocks, a call each; codes of their buffers."""
        self.counters.single_calls += blocks
        firsts, iovas = self._map(self._allocator.alloc_pages(blocks, self._order), self._order)
        self.counters.allocations += len(firsts) << self._order
        self._firsts.push(firsts)
        codes = self._blocks.add(firsts, iovas, self._order)
        self._sync_for_device(self._buffers(codes).iovas)
        return codes

    def _lend(self, codes: CodeArray) -> BufferBatch:
        np.add.at(self._blocks.away, self._blocks.firsts(codes), 1)
        batch = self._buffers(codes)
        self._pages.lend_buffers(batch)
        self.counters.taken += len(batch)
        return batch

    def _take_back(self, batch: BufferBatch) -> CodeArray:
        """Codes of buffers that are home again; after :meth:`close`, full blocks leave."""
        self._pages.take_back(batch)
        self.counters.given += len(batch)
        codes = self._blocks.codes(batch)
        firsts = self._blocks.firsts(codes)
        np.subtract.at(self._blocks.away, firsts, 1)
        if self._closing:
            self._release(np.unique(firsts[self._blocks.away[firsts] == 0]))
        else:
            self._sync_for_device(batch.iovas)
        return codes

    def _release(self, firsts: PfnArray) -> None:
        if len(firsts):
            self._unmap_iovas(self._blocks.iova[firsts], self._order)
            self.counters.released += len(firsts) << self._order
            self._allocator.free_pages(firsts, self._order)

    def _buffers(self, codes: CodeArray) -> BufferBatch:
        return self._blocks.batch(codes, self._config.buffer_bytes, self._dma.domain)

    def _sync_for_device(self, iovas: IovaArray) -> None:
        if self._config.sync and len(iovas):
            self.counters.syncs_for_device += len(iovas)
            length = constant(self._config.buffer_bytes, len(iovas))
            self._dma.sync_for_device(iovas, length)
