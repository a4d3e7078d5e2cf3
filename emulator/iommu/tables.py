# SPDX-License-Identifier: MIT
"""The tables behind an address space, and what a look-up in them yields."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import (
    MEMORY_SHIFT,
    OFFSET_MASK,
    PAGE_MASK,
    PAGE_SHIFT,
    REMOTE,
    Mapping,
    page_word,
)
from emulator.kernel import loop

NEAR_PAGES = 1 << 20
"""Pages below 4 GiB of IOVA: Linux hands out no others to a PCI device before these are used up."""

SEVERAL = REMOTE - 1
LOOK_CLOSER = REMOTE - 2

_SHIFT, _INNER = np.uint64(PAGE_SHIFT), np.uint64(PAGE_MASK)
_WORD_TARGET = ~PAGE_MASK
_NEAR = np.uint64(NEAR_PAGES)

_TRUE = np.ones(1 << 12, np.bool_)
_TRUE.flags.writeable = False


class Translation(NamedTuple):
    """Where ``n`` accesses land.

    targets: int64[n], packed as in :mod:`emulator.iommu.mapping`, meaningless where not ``ok``.
    ok: bool[n], the access lies within one mapping that allows it; not to be written to.
    all_ok: whether all of ``ok`` is True. home: index of the memory that holds all accesses,
    ``REMOTE``, or something below if they are in several or some are refused.
    """

    targets: NDArray[np.int64]
    ok: NDArray[np.bool_]
    all_ok: bool
    home: int

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


class PageWords:
    """Page number -> page word of the pages below 4 GiB; word 0, of unmapped ones, allows nothing.

    ``near``: int64[NEAR_PAGES]: 8 MiB, of which only what was touched exists. Pages beyond are not
    kept: accesses there are looked at one by one.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets all pages."""
        self.near = np.zeros(NEAR_PAGES, np.int64)
        self._cells = self.near.data  # sets a cell in half the time

    def __setitem__(self, page: int, word: int) -> None:
        if page < NEAR_PAGES:
            self._cells[page] = word

    def __delitem__(self, page: int) -> None:
        if page < NEAR_PAGES:
            self._cells[page] = 0


def all_true(count: int) -> NDArray[np.bool_]:
    """bool[count] of True, read-only and shared."""
    return _TRUE[:count] if count <= len(_TRUE) else np.ones(count, np.bool_)


def extents_of(mappings: list[Mapping]) -> NDArray[np.uint64]:
    """uint64[n, 3]: first IOVA, size - 1, page word of each of ``mappings``, sorted by IOVA."""
    rows = [(m.iova, m.size - 1, page_word(m)) for m in mappings]
    return np.array(rows, np.uint64).reshape(len(rows), 3)


@loop
def locate(
    iovas: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    near: NDArray[np.int64],
    extents: NDArray[np.uint64],
    need: int,
    targets: NDArray[np.int64],
    ok: NDArray[np.bool_],
) -> int:
    """Fills ``targets`` and ``ok`` for the accesses that lie in one near page or one extent.

    need: the bit of a page word that must be set. Returns the memory that holds all of them
    (``REMOTE`` included), ``SEVERAL``, or ``LOOK_CLOSER``: those that are not ``ok`` may lie in
    several pages of one mapping or in a far page.
    """
    home, last, closer = np.int64(LOOK_CLOSER), 0, False
    for i in range(len(iovas)):
        iova, reach = iovas[i], lengths[i] - 1
        word, start, room = np.int64(0), iova & ~_INNER, _INNER
        if iova >> _SHIFT < _NEAR:
            word = near[iova >> _SHIFT]
        if not word and len(extents):
            # The extent of the access before, or else the last one that starts at or below.
            if not (extents[last, 0] <= iova and iova - extents[last, 0] <= extents[last, 1]):
                last = max(np.searchsorted(extents[:, 0], iova, side="right") - 1, 0)
            start, room, word = extents[last, 0], extents[last, 1], np.int64(extents[last, 2])
        inner = iova - start  # huge if the first extent starts above
        ok[i] = (
            word & need != 0 and reach >= 0 and inner <= room and np.uint64(reach) <= room - inner
        )
        memory = (word >> MEMORY_SHIFT) - 1
        targets[i] = 0 if memory == REMOTE else (word & _WORD_TARGET) + np.int64(inner)
        closer |= not ok[i]
        if i == 0:
            home = memory
        elif memory != home:
            home = np.int64(SEVERAL)
    return LOOK_CLOSER if closer else int(home)
