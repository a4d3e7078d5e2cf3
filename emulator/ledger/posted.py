# SPDX-License-Identifier: MIT
"""The pages in which a ring's device owns buffers, and how many buffers in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import PAGE_MASK, PAGE_SHIFT
from emulator.kernel import loop

NEAR_PAGES = 1 << 20
"""Pages below 4 GiB, which are counted in a flat array."""

_SHIFT = np.uint64(PAGE_SHIFT)
_NEAR, _ONE = np.uint64(NEAR_PAGES), np.uint64(1)


class PostedPages:
    """Page number -> buffers of one ring that have bytes there; a collection of page numbers."""

    def __init__(self) -> None:
        self._near = np.zeros(NEAR_PAGES, np.int32)
        self._cells = self._near.data
        self._far: Counter[int] = Counter()
        self._pages = 0  # near pages with a buffer

    def add(self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        """Buffers go to the device: uint64[n], int64[n]."""
        added = _count(self._near, iovas, lengths, 1)
        if added < 0:
            self._count_each(iovas, lengths, 1)
        else:
            self._pages += added

    def remove(self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        """Buffers go back to the driver; those that were never posted are ignored."""
        removed = _count(self._near, iovas, lengths, -1)
        if removed < 0:
            self._count_each(iovas, lengths, -1)
        else:
            self._pages -= removed

    def meets(self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> bool:
        """Whether a buffer lies in a page that has one, or beyond what is looked at here."""
        return bool(_meets(self._near, iovas, lengths))

    def total(self) -> int:
        """Buffers that the device owns; one that crosses pages counts once for each."""
        return int(self._near.sum()) + self._far.total()

    def __getitem__(self, page: int) -> int:
        return self._cells[page] if page < NEAR_PAGES else self._far[page]

    def __contains__(self, page: object) -> bool:
        return isinstance(page, int) and self[page] > 0

    def __len__(self) -> int:
        return self._pages + len(self._far)

    def __iter__(self) -> Iterator[int]:
        yield from np.flatnonzero(self._near).tolist()
        yield from self._far

    def _count_each(self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64], step: int) -> None:
        """As :func:`_count`, for buffers of which some are beyond the near pages."""
        for page in buffer_pages(iovas, lengths):
            before = self[page]
            after = max(before + step, 0)
            if page < NEAR_PAGES:
                self._cells[page] = after
                self._pages += (after > 0) - (before > 0)
            elif after:
                self._far[page] = after
            else:
                self._far.pop(page, None)


def buffer_pages(iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> list[int]:
    """Numbers of the pages that hold bytes of the buffers: one entry per buffer and page."""
    ends = (iovas.view(np.int64) & PAGE_MASK) + lengths
    if len(ends) and int(ends.max()) <= PAGE_MASK + 1:
        pages: list[int] = (iovas >> PAGE_SHIFT).tolist()
        return pages
    return [
        page
        for iova, length in zip(iovas.tolist(), lengths.tolist(), strict=True)
        for page in range(iova >> PAGE_SHIFT, ((iova + max(length, 1) - 1) >> PAGE_SHIFT) + 1)
    ]


@loop
def _count(
    near: NDArray[np.int32], iovas: NDArray[np.uint64], lengths: NDArray[np.int64], step: int
) -> int:
    """Adds ``step`` (1 or -1) for each page of each buffer, down to 0.

    Returns how many pages changed between none and some; -1, and nothing is done, if one is not
    near.
    """
    for i in range(len(iovas)):
        last = iovas[i] + np.uint64(max(lengths[i], 1)) - _ONE
        if last < iovas[i] or last >> _SHIFT >= _NEAR:
            return -1
    changed = 0
    for i in range(len(iovas)):
        page = iovas[i] >> _SHIFT
        last_page = (iovas[i] + np.uint64(max(lengths[i], 1)) - _ONE) >> _SHIFT
        while page <= last_page:
            before = near[page]
            after = max(before + step, 0)
            near[page] = after
            changed += (before > 0) != (after > 0)
            page += _ONE
    return changed


@loop
def _meets(near: NDArray[np.int32], iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> bool:
    """True if one of the pages is counted in ``near``, or one is not near."""
    for i in range(len(iovas)):
        page = iovas[i] >> _SHIFT
        last = iovas[i] + np.uint64(max(lengths[i], 1)) - _ONE
        if last < iovas[i] or last >> _SHIFT >= _NEAR:
            return True
        while page <= last >> _SHIFT:
            if near[page] > 0:
                return True
            page += _ONE
    return False
