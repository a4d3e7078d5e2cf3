# SPDX-License-Identifier: MIT
"""Maps of pieces that need not end in the page they begin in: a buffer carved out of a block.

A buffer has at most one page's bytes, so a piece lies in one page or in two: order 0 or 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import PAGE_SHIFT
from pool.buffers import NO_IOVA, BufferBatch
from pool.interface import Direction, DmaApi


def orders_of(buffers: BufferBatch, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order of the pages that the first ``lengths`` bytes of each buffer lie in; int64[n]."""
    return (buffers.offsets + lengths - 1) >> PAGE_SHIFT


def map_spans(
    dma: DmaApi, pfns: NDArray[np.int64], orders: NDArray[np.int64], direction: Direction
) -> NDArray[np.uint64]:
    """An IOVA for the pages from each of ``pfns`` on; ``NO_IOVA``: refused. uint64[n]."""
    iovas = np.full(len(pfns), NO_IOVA, np.uint64)
    for order in np.unique(orders).tolist():
        alike = orders == order
        iovas[alike] = dma.map_pages(pfns[alike], direction, order)
    return iovas


def unmap_spans(dma: DmaApi, iovas: NDArray[np.uint64], orders: NDArray[np.int64]) -> None:
    """Undoes :func:`map_spans`."""
    for order in np.unique(orders).tolist():
        dma.unmap_pages(iovas[orders == order], order)
