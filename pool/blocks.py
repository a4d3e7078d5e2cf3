# SPDX-License-Identifier: MIT
"""Blocks of pages carved into buffers: the arithmetic that several strategies share.

A buffer in a block has a code, ``first frame of the block * codes per block + index``, so that
stores of buffers are plain int64 arrays. A buffer may begin in one page and end in the next.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pool.buffers import PAGE_SHIFT, PAGE_SIZE, BufferBatch, IovaArray, PfnArray

CACHE_LINE = 64
"""Bytes; buffers start on one."""

CodeArray = NDArray[np.int64]


def stride_of(headroom: int, buffer_bytes: int) -> int:
    """Bytes from one buffer to the next: headroom and payload, rounded up to a cache line."""
    return -(-(headroom + buffer_bytes) // CACHE_LINE) * CACHE_LINE


class Blocks:
    """Blocks of up to ``2**max_order`` pages, each cut every ``stride`` bytes.

    Columns by first frame: ``iova`` (uint64), ``order``, ``away`` (buffers a strategy waits for).
    """

    def __init__(self, stride: int, headroom: int, max_order: int) -> None:
        self._stride, self._headroom = stride, headroom
        self._codes = self.per_block(max_order)
        self._first = np.zeros(0, np.int64)
        self.iova = np.zeros(0, np.uint64)
        self.order = np.zeros(0, np.int64)
        self.away = np.zeros(0, np.int64)

    def per_block(self, order: int) -> int:
        """Buffers in a block of ``2**order`` pages."""
        return (PAGE_SIZE << order) // self._stride

    def add(self, firsts: PfnArray, iovas: IovaArray, order: int) -> CodeArray:
        """Cuts new blocks, mapped at ``iovas``; their buffers' codes, block by block."""
        pages = firsts[:, None] + np.arange(1 << order)
        self._reach(pages)
        self._first[pages] = firsts[:, None]
        self.iova[firsts], self.order[firsts], self.away[firsts] = iovas, order, 0
        codes: CodeArray = firsts[:, None] * self._codes + np.arange(self.per_block(order))
        return codes.ravel()

    def firsts(self, codes: CodeArray) -> PfnArray:
        """int64[n]: first frame of the block of each buffer."""
        return codes // self._codes

    def codes(self, batch: BufferBatch) -> CodeArray:
        """int64[n]: code of each buffer; it must lie in a known block."""
        first = self._first[batch.pfns]
        into = ((batch.pfns - first) << PAGE_SHIFT) + batch.offsets - batch.headrooms
        codes: CodeArray = first * self._codes + into // self._stride
        return codes

    def batch(self, codes: CodeArray, length: int, domain: int) -> BufferBatch:
        """The buffers: DMA address, page and offset behind their headroom."""
        first = self.firsts(codes)
        start = (codes - first * self._codes) * self._stride
        place = start + self._headroom
        whole = BufferBatch.uniform(
            first + (start >> PAGE_SHIFT),
            self.iova[first] + place.astype(np.uint64),
            length=length,
            offset=0,
            headroom=self._headroom,
            domain=domain,
        )
        return replace(whole, offsets=(start & (PAGE_SIZE - 1)) + self._headroom)

    def leave(self, firsts: PfnArray) -> list[tuple[int, PfnArray]]:
        """``firsts`` by order: what an allocator call can take at once."""
        orders = self.order[firsts]
        return [(int(order), firsts[orders == order]) for order in np.unique(orders)]

    def _reach(self, pages: PfnArray) -> None:
        need = int(pages.max(initial=-1)) + 1
        have = len(self._first)
        if need <= have:
            return
        more = max(need, 2 * have) - have
        self._first = np.append(self._first, np.zeros(more, np.int64))
        self.iova = np.append(self.iova, np.zeros(more, np.uint64))
        self.order = np.append(self.order, np.zeros(more, np.int64))
        self.away = np.append(self.away, np.zeros(more, np.int64))
