# SPDX-License-Identifier: MIT
"""The tables behind an address space, and what a look-up in them yields."""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import (
    DENY_READ,
    DENY_WRITE,
    MEMORY_SHIFT,
    OFFSET_MASK,
    UNMAPPED,
    Mapping,
    target_of,
)

_TRUE = np.ones(1 << 12, np.bool_)
_TRUE.flags.writeable = False


class Translation(NamedTuple):
    """Where ``n`` accesses land.

    targets: int64[n], packed as in :mod:`emulator.iommu.mapping`, meaningless where not ``ok``.
    ok: bool[n], the access lies within one mapping that allows it; not to be written to.
    all_ok: whether all of ``ok`` is True.
    """

    targets: NDArray[np.int64]
    ok: NDArray[np.bool_]
    all_ok: bool

    @property
    def memory(self) -> NDArray[np.int64]:
        """int64[n]: index of the memory, ``REMOTE`` (-1) where only messages reach it."""
        return (self.targets >> MEMORY_SHIFT) - 1

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64[n]: offset of the first byte in that memory."""
        return self.targets & OFFSET_MASK


class Piece(NamedTuple):
    """A part of an access within one mapping."""

    iova: int
    length: int
    mapping: Mapping

    @property
    def offset(self) -> int:
        """Offset of the first byte in the mapping's memory."""
        return self.mapping.offset + self.iova - self.mapping.iova


class PageWords(dict[int, int]):
    """Page number -> page word; a page that is not there denies everything."""

    def __missing__(self, page: int) -> int:
        return UNMAPPED

    def look_up(self, pages: list[int]) -> NDArray[np.int64]:
        """int64[n]: the words of ``pages``. One C call for all of them."""
        words = itemgetter(*pages)(self) if len(pages) > 1 else [self[page] for page in pages]
        return np.fromiter(words, np.int64, len(pages))


class Extents:
    """Big mappings as sorted arrays: built when one changes, searched by batches."""

    def __init__(self, mappings: list[Mapping]) -> None:
        self._starts = np.array([m.iova for m in mappings], np.uint64)
        self._lasts = np.array([m.size - 1 for m in mappings], np.uint64)
        self._targets = np.array([target_of(m.memory, m.offset) for m in mappings], np.int64)
        self._local = np.array([m.memory is not None for m in mappings])
        self._denied = np.array([m.denied for m in mappings], np.int64)

    def translate(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64], write: bool
    ) -> Translation:
        """As :meth:`emulator.iommu.space.AddressSpace.translate`, of these mappings alone."""
        at = self._starts.searchsorted(iovas, side="right") - 1
        inner = iovas - self._starts[at]
        lasts = self._lasts[at]
        reach = lengths - 1
        ok = (at >= 0) & (reach >= 0) & (inner <= lasts)
        ok &= reach.view(np.uint64) <= lasts - inner
        ok &= (self._denied[at] & (DENY_WRITE if write else DENY_READ)) == 0
        targets = self._targets[at] + inner.view(np.int64) * self._local[at]
        return Translation(targets, ok, bool(ok.all()))


def all_true(count: int) -> NDArray[np.bool_]:
    """bool[count] of True, read-only and shared."""
    return _TRUE[:count] if count <= len(_TRUE) else np.ones(count, np.bool_)
