# SPDX-License-Identifier: MIT
"""The ledger's own record of what a device can reach.

Deliberately not the address space's: it is kept from what the ledger is told, page by page and as
simply as possible, so that a mistake in the address space shows as a disagreement (rule O-1).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.mapping import PAGE_MASK, PAGE_SHIFT, Mapping, target_of

BIG_PAGES = 512


class LiveSet:
    """Live mappings of one device.

    owners: page number -> mapping. readable, writable: page number -> packed target of the page
    >> 12, of pages that may be read, written.
    Mappings of more than ``BIG_PAGES`` pages are in ``big``.
    """

    def __init__(self) -> None:
        self.readable: dict[int, int] = {}
        self.writable: dict[int, int] = {}
        self.owners: dict[int, Mapping] = {}
        self.big: list[Mapping] = []
        self.count = 0

    def add(self, mapping: Mapping) -> None:
        """Records a new mapping (over an old one: the new one counts)."""
        self.count += 1
        iova, size, memory, offset, readable, writable, _, _ = mapping
        page, pages = iova >> PAGE_SHIFT, size >> PAGE_SHIFT
        if pages > BIG_PAGES:
            self.big.append(mapping)
            return
        frame = target_of(memory, offset) >> PAGE_SHIFT
        step = 0 if memory is None else 1
        while pages:
            self.owners[page] = mapping
            if readable:
                self.readable[page] = frame
            if writable:
                self.writable[page] = frame
            page += 1
            frame += step
            pages -= 1

    def remove(self, mapping: Mapping) -> bool:
        """Forgets a mapping; False if it was not recorded as alive."""
        page, pages = mapping[0] >> PAGE_SHIFT, mapping[1] >> PAGE_SHIFT
        if pages > BIG_PAGES:
            if mapping not in self.big:
                return False
            self.big.remove(mapping)
            self.count -= 1
            return True
        owner = self.owners.get(page)
        if owner is not mapping and (owner is None or owner.generation != mapping.generation):
            return False
        while pages:
            del self.owners[page]
            self.readable.pop(page, None)
            self.writable.pop(page, None)
            page += 1
            pages -= 1
        self.count -= 1
        return True

    def find(self, iova: int) -> Mapping | None:
        """The mapping that holds ``iova``."""
        owner = self.owners.get(iova >> PAGE_SHIFT)
        if owner is not None:
            return owner
        return next((m for m in self.big if m.iova <= iova < m.end), None)

    def holds(self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> bool:
        """Whether each range lies in one page or big mapping, whatever that allows.

        False: at least one does not, or is beyond what is looked at here; each has to be examined.
        """
        return self._covers(self.owners, iovas, lengths)

    def allows(self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64], write: bool) -> bool:
        """As :meth:`holds`, where the access is allowed too."""
        return self._covers(self.writable if write else self.readable, iovas, lengths)

    def _covers(
        self, pages: Collection[int], iovas: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> bool:
        ends = (iovas.view(np.int64) & PAGE_MASK) + lengths
        if self.big or np.count_nonzero(ends > PAGE_MASK + 1):
            return False
        return all(map(pages.__contains__, (iovas >> PAGE_SHIFT).tolist()))

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
