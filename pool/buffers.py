# SPDX-License-Identifier: MIT
"""The page descriptor, as parallel arrays: what a driver knows about each buffer it holds.

The columns are those the 2016 page-pool discussion asked for: DMA address, length, an offset that
leaves headroom, opaque bytes, and the id of the domain that a buffer must not leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
"""Bytes of a page: that of x86, and of the IOMMU granule."""

NO_IOVA = 0xFFFF_FFFF_FFFF_FFFF
"""DMA address of what is not mapped: DMA_MAPPING_ERROR of include/linux/dma-mapping.h."""

PfnArray = NDArray[np.int64]
IovaArray = NDArray[np.uint64]
CONSTANT_MAX = 8192

Rows = slice | NDArray[np.int64] | NDArray[np.bool_]


@lru_cache(maxsize=64)
def _constant(value: int) -> NDArray[np.int64]:
    column = np.full(CONSTANT_MAX, value, np.int64)
    column.flags.writeable = False
    return column


def constant(value: int, n: int) -> NDArray[np.int64]:
    """int64[n] of ``value``, read-only; shared, for a poll needs several and each costs."""
    return _constant(value)[:n] if n <= CONSTANT_MAX else np.full(n, value, np.int64)


@dataclass(frozen=True, slots=True)
class BufferBatch:
    """``n`` buffers; nobody writes to the arrays.

    pfns: int64[n], frame of the page in which the buffer starts.
    iovas: uint64[n], DMA address of the first byte the device may write, or :data:`NO_IOVA`.
    lengths: int64[n], bytes the device may write from there.
    offsets: int64[n], bytes from the start of the page to that first byte, headroom included.
    headrooms: int64[n], how many of the offset's bytes are the driver's own.
    opaques: uint64[n], the owner's, carried and never read.
    domains: int64[n], id of the domain in which ``iovas`` mean something.
    """

    pfns: PfnArray
    iovas: IovaArray
    lengths: NDArray[np.int64]
    offsets: NDArray[np.int64]
    headrooms: NDArray[np.int64]
    opaques: NDArray[np.uint64]
    domains: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pfns)

    def __getitem__(self, rows: Rows) -> BufferBatch:
        """The buffers of ``rows``."""
        return BufferBatch(*(column[rows] for column in self.columns()))

    def columns(self) -> tuple[NDArray[Any], ...]:
        """All arrays, in the order of the declaration."""
        return (
            self.pfns,
            self.iovas,
            self.lengths,
            self.offsets,
            self.headrooms,
            self.opaques,
            self.domains,
        )

    @property
    def memory(self) -> NDArray[np.int64]:
        """int64[n]: where the device's first byte lies in memory, bytes from frame 0."""
        return (self.pfns << PAGE_SHIFT) + self.offsets

    @classmethod
    def uniform(
        cls,
        pfns: PfnArray,
        iovas: IovaArray,
        *,
        length: int,
        offset: int,
        headroom: int,
        domain: int,
    ) -> BufferBatch:
        """Buffers that differ in page and DMA address only; the other columns are shared."""
        n = len(pfns)
        lengths, offsets, headrooms, domains = (
            constant(value, n) for value in (length, offset, headroom, domain)
        )
        opaques = constant(0, n).view(np.uint64)
        return cls(pfns, iovas, lengths, offsets, headrooms, opaques, domains)

    @classmethod
    def empty(cls) -> BufferBatch:
        """No buffer."""
        none, none_u = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        return cls(none, none_u, none, none, none, none_u, none)

    @classmethod
    def concat(cls, batches: Iterable[BufferBatch]) -> BufferBatch:
        """All buffers of ``batches``, in order."""
        parts = [batch for batch in batches if len(batch)]
        if not parts:
            return cls.empty()
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(batch.columns() for batch in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))
