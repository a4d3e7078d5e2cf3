# SPDX-License-Identifier: MIT
"""The IOTLB and the three page-walk caches behind it: which accesses read page tables, how often.

A walk-cache entry of level L1, L2, L3 covers 2^39, 2^30, 2^21 bytes (named as in "Fast & Safe IO
Memory Protection", SOSP 2024). A miss in the IOTLB reads the leaf entry;
the deepest walk cache that hits says how much of the tree above it is read too: with 4 KiB pages
1 to 4 reads, with 2 MiB pages 1 to 3. A cache further up is only asked when the one below missed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.errors import ModelError
from emulator.iommu.model.lru import Keys, Lru, Mask

PAGE_SHIFT = 12
SUPERPAGE_SHIFT = 21
HUGE_SHIFT = 30
L1_SHIFT, L2_SHIFT, L3_SHIFT = 39, 30, 21

Shift = int | NDArray[np.int64]


class SetAssociative:
    """A cache of ``entries`` in sets of ``ways``, LRU within a set; ``ways`` 0: one set of all.

    Raises:
        ModelError: ``entries`` is not a multiple of ``ways``.
    """

    def __init__(self, entries: int, ways: int = 0) -> None:
        if ways < 0 or (ways and entries % ways):
            raise ModelError(f"{entries} entries in sets of {ways}: must divide evenly")
        self.entries = entries
        sets = entries // ways if ways else 1
        self._sets = [Lru(ways or entries) for _ in range(max(sets, 1))]

    def __len__(self) -> int:
        return sum(len(cache) for cache in self._sets)

    def access(self, keys: Keys, index: Keys | None = None) -> Mask:
        """Uses ``keys`` in order, each in the set ``index`` (default: the key); True: missed."""
        if len(self._sets) == 1:
            return self._sets[0].access(keys)
        misses = np.empty(len(keys), np.bool_)
        chosen = (keys if index is None else index) % len(self._sets)
        for number in np.unique(chosen).tolist():
            here = chosen == number
            misses[here] = self._sets[number].access(keys[here])
        return misses

    def invalidate(self, keys: Keys) -> int:
        """Forgets ``keys`` wherever they are; the number that were cached."""
        return sum(cache.invalidate(keys) for cache in self._sets)

    def clear(self) -> None:
        """Forgets everything."""
        for cache in self._sets:
            cache.clear()


@dataclass(slots=True)
class MissCounts:
    """Accesses and misses so far; each miss is one read of memory by the walker."""

    accesses: int = 0
    iotlb: int = 0
    l1: int = 0
    l2: int = 0
    l3: int = 0

    @property
    def reads(self) -> int:
        """Page-table reads: F&S call the number for each packet M."""
        return self.iotlb + self.l1 + self.l2 + self.l3

    @property
    def miss_ratio(self) -> float:
        """IOTLB misses per access (0 before the first)."""
        return self.iotlb / self.accesses if self.accesses else 0.0


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """Entries of the IOTLB (and its ways, 0: fully associative) and of the walk caches."""

    iotlb: int = 128
    ways: int = 0
    l1: int = 16
    l2: int = 32
    l3: int = 64


@dataclass(slots=True)
class TranslationCaches:
    """What one IOMMU remembers of page tables. Domains are told apart by their addresses.

    A set of an IOTLB with ways is chosen by the low bits of the page number.
    """

    sizes: CacheSizes = field(default_factory=CacheSizes)
    counts: MissCounts = field(default_factory=MissCounts)
    _iotlb: SetAssociative = field(init=False)
    _walk: dict[int, Lru] = field(init=False)

    def __post_init__(self) -> None:
        self._iotlb = SetAssociative(self.sizes.iotlb, self.sizes.ways)
        levels = {L1_SHIFT: self.sizes.l1, L2_SHIFT: self.sizes.l2, L3_SHIFT: self.sizes.l3}
        self._walk = {shift: Lru(entries) for shift, entries in levels.items()}

    def translate(self, iovas: Keys, page_shift: Shift = PAGE_SHIFT) -> NDArray[np.int8]:
        """Page-table reads (0 to 4) of each access, in order.

        Args:
            iovas: addresses in bytes, shape (n,); an access does not cross a page.
            page_shift: log2 of the size of the page each lies in, 12 to 38: one for all, or
                shape (n,).

        Raises:
            ModelError: a page size that page tables do not have.
        """
        _check_shift(page_shift)
        if not len(iovas):
            return np.zeros(0, np.int8)
        misses = self._iotlb.access(_keys(iovas, page_shift), iovas >> page_shift)
        self.counts.accesses += len(iovas)
        where = np.flatnonzero(misses)
        reads = np.zeros(len(iovas), np.int8)
        if where.size:
            sizes = page_shift if isinstance(page_shift, int) else page_shift[where]
            reads[where] = self._walk_up(iovas[where], sizes)
        return reads

    def invalidate(
        self, iovas: Keys, page_shift: Shift = PAGE_SHIFT, walk_caches: bool = True
    ) -> int:
        """Forgets the pages at ``iovas``; the number of IOTLB entries that went.

        ``walk_caches``: as Linux on VT-d, drop the entries above these pages too; F&S keeps them.
        """
        _check_shift(page_shift)
        gone = self._iotlb.invalidate(_keys(iovas, page_shift))
        if walk_caches:
            for shift, cache in self._walk.items():
                if len(cache):
                    cache.invalidate(iovas >> shift)
        return gone

    def invalidate_all(self) -> None:
        """A domain-wide or global invalidation: what a flush of a lazy queue does."""
        self._iotlb.clear()
        for cache in self._walk.values():
            cache.clear()

    def _walk_up(self, iovas: Keys, page_shift: Shift) -> NDArray[np.int8]:
        reads = np.ones(len(iovas), np.int8)
        sizes = np.asarray(page_shift)
        asks = np.zeros(len(iovas), np.bool_)
        missed = {}
        for shift, ceiling in ((L3_SHIFT, 0), (L2_SHIFT, L3_SHIFT), (L1_SHIFT, L2_SHIFT)):
            # A leaf of at least 2^ceiling bytes starts its walk at this level.
            asks |= (sizes >= ceiling) & (sizes < shift)
            asks[asks] = self._walk[shift].access(iovas[asks] >> shift)
            reads += asks
            missed[shift] = int(np.count_nonzero(asks))
        self.counts.iotlb += len(iovas)
        self.counts.l1 += missed[L1_SHIFT]
        self.counts.l2 += missed[L2_SHIFT]
        self.counts.l3 += missed[L3_SHIFT]
        return reads


def _check_shift(page_shift: Shift) -> None:
    if isinstance(page_shift, int) and PAGE_SHIFT <= page_shift < L1_SHIFT:
        return
    sizes = np.atleast_1d(page_shift)
    if sizes.size and not (sizes.min() >= PAGE_SHIFT and sizes.max() < L1_SHIFT):
        raise ModelError(
            f"page_shift {int(sizes.min())}..{int(sizes.max())}: pages are 2^{PAGE_SHIFT} to "
            f"2^{L1_SHIFT - 1} bytes"
        )


def _keys(iovas: Keys, page_shift: Shift) -> Keys:
    """One key for each page; pages of different size at one address are different entries."""
    keys = iovas >> page_shift
    keys *= 4
    keys += (page_shift - PAGE_SHIFT) // 9
    return keys
