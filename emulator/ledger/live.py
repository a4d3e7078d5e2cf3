# SPDX-License-Identifier: MIT
"""The ledger's own record of what a device can reach.

Deliberately not the address space's: it is kept from what the ledger is told, page by page and as
simply as possible, so that a mistake in the address space shows as a disagreement (rule O-1).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import PAGE_SHIFT, Mapping, target_of
from emulator.kernel import loop

BIG_PAGES = 512
NEAR_PAGES = 1 << 20
"""Pages below 4 GiB: all that Linux maps for a PCI device, as long as there is room."""

READABLE, WRITABLE = 1, 2
_RIGHTS_BITS = 2

_SHIFT, _INNER = np.uint64(PAGE_SHIFT), np.uint64((1 << PAGE_SHIFT) - 1)
_NEAR = np.uint64(NEAR_PAGES)
_NO_TARGETS = np.zeros(0, np.int64)
_NO_BIG = np.zeros((0, 3), np.uint64)


class LiveSet:
    """Live mappings of one device.

    owners: page number -> mapping. near: int64[NEAR_PAGES], page number -> frame << 2 | rights,
    where the frame is the page's packed target >> 12; 0: not mapped. Mappings of more than
    ``BIG_PAGES`` pages are in ``big``.
    """

    def __init__(self) -> None:
        self.owners: dict[int, Mapping] = {}
        self.near: NDArray[np.int64] = np.zeros(NEAR_PAGES, np.int64)
        self._cells = self.near.data
        self.big: list[Mapping] = []
        self._big_rows = _NO_BIG
        self.count = 0

    def add(self, mapping: Mapping) -> None:
        """Records a new mapping (over an old one: the new one counts)."""
        self.count += 1
        page, pages = mapping[0] >> PAGE_SHIFT, mapping[1] >> PAGE_SHIFT
        if pages > BIG_PAGES:
            self.big.append(mapping)
            self._big_rows = _rows(self.big)
            return
        cell = _cell(mapping)
        step = 0 if mapping[2] is None else 1 << _RIGHTS_BITS
        while pages:
            self.owners[page] = mapping
            if page < NEAR_PAGES:
                self._cells[page] = cell
            page += 1
            cell += step
            pages -= 1

    def remove(self, mapping: Mapping) -> bool:
        """Forgets a mapping; False if it was not recorded as alive."""
        page, pages = mapping[0] >> PAGE_SHIFT, mapping[1] >> PAGE_SHIFT
        if pages > BIG_PAGES:
            if mapping not in self.big:
                return False
            self.big.remove(mapping)
            self._big_rows = _rows(self.big)
            self.count -= 1
            return True
        owner = self.owners.get(page)
        if owner is not mapping and (owner is None or owner.generation != mapping.generation):
            return False
        while pages:
            if self.owners.get(page) is owner:  # else a later mapping was made over it
                del self.owners[page]
                if page < NEAR_PAGES:
                    self._cells[page] = 0
            page += 1
            pages -= 1
        self.count -= 1
        return True

    def writable_frame(self, page: int) -> int | None:
        """The packed target >> 12 of a page in a mapping that is not big and may be written."""
        owner = self.owners.get(page)
        if owner is None or not owner.writable:
            return None
        offset = owner.offset + (page << PAGE_SHIFT) - owner.iova
        return target_of(owner.memory, offset) >> PAGE_SHIFT

    def explains(
        self,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
        write: bool,
        targets: NDArray[np.int64] | None,
    ) -> bool:
        """Whether each access lies in one page or big mapping that allows it, and landed there.

        False: at least one does not, or is beyond what is looked at here; each has to be examined.
        """
        told = targets is not None
        places = targets if targets is not None else _NO_TARGETS
        need = WRITABLE if write else READABLE
        return bool(_explained(iovas, lengths, places, told, self.near, self._big_rows, need))

    def holds(self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> bool:
        """Whether each range lies in one page or big mapping, whatever that allows.

        False as for :meth:`explains`.
        """
        either = READABLE | WRITABLE
        return bool(
            _explained(iovas, lengths, _NO_TARGETS, False, self.near, self._big_rows, either)
        )

    def find(self, iova: int) -> Mapping | None:
        """The mapping that holds ``iova``."""
        owner = self.owners.get(iova >> PAGE_SHIFT)
        if owner is not None:
            return owner
        return next((m for m in self.big if m.iova <= iova < m.end), None)

    def target(self, iova: int) -> int | None:
        """The packed place in memory of the byte at ``iova``; None: not mapped."""
        owner = self.find(iova)
        return None if owner is None else target_of(owner.memory, owner.offset + iova - owner.iova)

    def hole(self, iova: int, length: int) -> int | None:
        """The first of ``length`` bytes from ``iova`` on that is not mapped; None: all are."""
        at, end = iova, iova + max(length, 1)
        while at < end:
            mapping = self.find(at)
            if mapping is None:
                return at
            at = mapping.end
        return None

    def mappings(self) -> list[Mapping]:
        """All live mappings, by IOVA."""
        small = {mapping.generation: mapping for mapping in self.owners.values()}
        return sorted([*small.values(), *self.big], key=lambda m: m.iova)

    def within(self, iova: int, size: int) -> list[Mapping]:
        """Live mappings that have a byte in the range; visits the smaller of range and set."""
        big = [m for m in self.big if m.iova < iova + size and m.end > iova]
        pages = overlap(self.owners, iova, size)
        small = {self.owners[page].generation: self.owners[page] for page in pages}
        return [*small.values(), *big]


def overlap(pages: Collection[int], iova: int, size: int) -> list[int]:
    """Those of ``pages`` that the range touches; visits the smaller of range and ``pages``."""
    first = iova >> PAGE_SHIFT
    last = (iova + size - 1) >> PAGE_SHIFT
    if last - first < len(pages):
        return [page for page in range(first, last + 1) if page in pages]
    return [page for page in pages if first <= page <= last]


def _cell(mapping: Mapping) -> int:
    _, _, memory, offset, readable, writable, _, _ = mapping
    rights = (READABLE if readable else 0) | (WRITABLE if writable else 0)
    return target_of(memory, offset) >> PAGE_SHIFT << _RIGHTS_BITS | rights


def _rows(big: list[Mapping]) -> NDArray[np.uint64]:
    """uint64[n, 3]: first IOVA, last IOVA, cell of the first page."""
    rows = [(mapping.iova, mapping.end - 1, _cell(mapping)) for mapping in big]
    return np.array(rows, np.uint64).reshape(len(rows), 3)


@loop
def _explained(
    iovas: NDArray[np.uint64],
    lengths: NDArray[np.int64],
    targets: NDArray[np.int64],
    told: bool,
    near: NDArray[np.int64],
    big: NDArray[np.uint64],
    need: int,
) -> bool:
    """See :meth:`LiveSet.explains`; ``told``: there are targets to compare."""
    for i in range(len(iovas)):
        iova, length = iovas[i], lengths[i]
        last = iova + np.uint64(length) - np.uint64(1)
        if length <= 0 or last < iova:
            return False
        page, cell = iova >> _SHIFT, np.int64(0)
        if page < _NEAR and last >> _SHIFT == page:
            cell = near[page]
        if cell == 0:
            for row in range(len(big)):
                if big[row, 0] <= iova and last <= big[row, 1]:
                    pages = page - (big[row, 0] >> _SHIFT)
                    cell = np.int64(big[row, 2])
                    if cell >> _RIGHTS_BITS:  # else memory without a file: all of it is target 0
                        cell += np.int64(pages) << _RIGHTS_BITS
        if cell & need == 0:
            return False
        if told and targets[i] >> PAGE_SHIFT != cell >> _RIGHTS_BITS:
            return False
    return True
