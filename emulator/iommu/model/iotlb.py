# SPDX-License-Identifier: MIT
"""The IOTLB and the three page-walk caches behind it: which accesses read page tables, how often.

A walk-cache entry of level L1, L2, L3 covers 2^39, 2^30, 2^21 bytes (named as in "Fast & Safe IO
Memory Protection", SOSP 2024). A miss in the IOTLB reads the leaf entry;
the deepest walk cache that hits says how much of the tree above it is read too: with 4 KiB pages
1 to 4 reads, with 2 MiB pages 1 to 3. A cache further up is only asked when the one below missed.

Sets 0 to 2 of the caches are L1 to L3, those from IOTLB on are the IOTLB's; which of them a page
is in, the low bits of its number say.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model import lru
from emulator.iommu.model.errors import ModelError
from emulator.iommu.model.lru import Keys, LruSets, SetAssociative, sizes_of_sets
from emulator.iommu.model.places import (
    ACCESSES,
    IOTLB_MISSES,
    L1_MISSES,
    L2_MISSES,
    L3_MISSES,
    numbers,
)
from emulator.kernel import Bytes, Ints, compiled, kernel

__all__ = ["CacheSizes", "MissCounts", "SetAssociative", "TranslationCaches"]

PAGE_SHIFT = 12
SUPERPAGE_SHIFT = 21
HUGE_SHIFT = 30
L1_SHIFT, L2_SHIFT, L3_SHIFT = 39, 30, 21
L1, L2, L3, IOTLB = range(4)
"""Sets of the caches."""
_SIZE_SHIFT = 60  # above it, a key of the IOTLB says which size of page it is of

Shift = int | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """Entries of the IOTLB (and its ways, 0: fully associative) and of the walk caches."""

    iotlb: int = 128
    ways: int = 0
    l1: int = 16
    l2: int = 32
    l3: int = 64


def make_caches(sizes: CacheSizes | None, room: tuple[int, int] = (1, 0)) -> LruSets:
    """Empty caches; None: there are none, and no translation reads anything.

    room: see :func:`emulator.iommu.model.lru.make_sets`.

    Raises:
        ModelError: entries that cannot be.
    """
    if sizes is None:
        return lru.make_sets((), room)
    return lru.make_sets(
        (sizes.l1, sizes.l2, sizes.l3, *sizes_of_sets(sizes.iotlb, sizes.ways)), room
    )


@kernel
def look_up(n: Ints, caches: LruSets, pfn: int, page_shift: int) -> int:
    """Page-table reads (0 to 4) of an access at 4 KiB page ``pfn``, in a page of 2^page_shift."""
    n[ACCESSES] += 1
    sets = caches.sets[0, lru.SETS] - IOTLB
    if sets <= 0:
        return 0
    page = pfn >> (page_shift - PAGE_SHIFT)
    chosen = IOTLB if sets == 1 else IOTLB + page % sets
    if not lru.use(caches, chosen, _key(page, page_shift)):
        return 0
    n[IOTLB_MISSES] += 1
    return 1 + _walk_up(n, caches, pfn, page_shift)


@kernel
def forget_range(caches: LruSets, pfn: int, pages: int, walks: bool) -> int:
    """Forgets all pages of a range, and if ``walks`` the entries above them.

    Returns the number of IOTLB entries that went.
    """
    if caches.sets[0, lru.SETS] <= IOTLB:
        return 0
    gone = 0
    for page_shift in (PAGE_SHIFT, SUPERPAGE_SHIFT, HUGE_SHIFT):
        # A range cannot hold a page that is larger than itself.
        if pages >> (page_shift - PAGE_SHIFT) > 0:
            gone += _forget_pages(caches, pfn, pages, page_shift)
    if walks:
        _forget_walks(caches, pfn, pages)
    return gone


@kernel
def forget_all(caches: LruSets) -> None:
    """A domain-wide or global invalidation: what a flush of a lazy queue does."""
    for number in range(caches.sets[0, lru.SETS]):
        lru.clear(caches, number)


@kernel
def _key(page: int, page_shift: int) -> int:
    """Pages of different size at one address are different entries."""
    return page | ((page_shift - PAGE_SHIFT) // 9 << _SIZE_SHIFT)


@kernel
def _walk_up(n: Ints, caches: LruSets, pfn: int, page_shift: int) -> int:
    """Reads above the leaf; a leaf of at least 2^21 bytes starts its walk at L2, and so on."""
    if page_shift < L3_SHIFT:
        if not lru.use(caches, L3, pfn >> (L3_SHIFT - PAGE_SHIFT)):
            return 0
        n[L3_MISSES] += 1
    if page_shift < L2_SHIFT:
        if not lru.use(caches, L2, pfn >> (L2_SHIFT - PAGE_SHIFT)):
            return page_shift < L3_SHIFT
        n[L2_MISSES] += 1
    above = int(page_shift < L3_SHIFT) + int(page_shift < L2_SHIFT)  # of NumPy, True + True is True
    if not lru.use(caches, L1, pfn >> (L1_SHIFT - PAGE_SHIFT)):
        return above
    n[L1_MISSES] += 1
    return above + 1


@kernel
def _forget_pages(caches: LruSets, pfn: int, pages: int, page_shift: int) -> int:
    """Of one size: each page of the range, or each entry held if those are fewer."""
    first = pfn >> (page_shift - PAGE_SHIFT)
    last = (pfn + pages - 1) >> (page_shift - PAGE_SHIFT)
    sets = caches.sets[0, lru.SETS] - IOTLB
    gone = 0
    if last - first < caches.rows.shape[0]:
        for page in range(first, last + 1):
            chosen = IOTLB if sets == 1 else IOTLB + page % sets
            gone += lru.forget(caches, chosen, _key(page, page_shift))
        return gone
    for chosen in range(IOTLB, IOTLB + sets):
        gone += _forget_between(caches, chosen, _key(first, page_shift), _key(last, page_shift))
    return gone


@kernel
def _forget_walks(caches: LruSets, pfn: int, pages: int) -> None:
    """Only where there is anything to forget: after a flush, and behind F&S's, there often is."""
    for level in range(IOTLB):
        shift = L1_SHIFT - PAGE_SHIFT - 9 * level
        if caches.sets[level, lru.HELD] > 0:
            _forget_between(caches, level, pfn >> shift, (pfn + pages - 1) >> shift)


@kernel
def _forget_between(caches: LruSets, which: int, first: int, last: int) -> int:
    """Keys from ``first`` to ``last``."""
    if first == last:
        return lru.forget(caches, which, first)
    gone = 0
    row = caches.sets[which, lru.NEWEST]
    while row != 0:
        key, older = caches.rows[row, lru.KEY], caches.rows[row, lru.OLDER]
        if first <= key <= last:
            gone += lru.forget(caches, which, key)
        row = older
    return gone


@compiled
def _look_up_all(n: Ints, caches: LruSets, pfns: Ints, shifts: Ints, reads: Bytes) -> None:
    for i in range(len(pfns)):
        reads[i] = look_up(n, caches, pfns[i], shifts[i])


@compiled
def _forget_each(caches: LruSets, pfns: Ints, shifts: Ints, walks: bool) -> int:
    gone = 0
    for i in range(len(pfns)):
        gone += _forget_pages(caches, pfns[i], 1, shifts[i])
        if walks:
            _forget_walks(caches, pfns[i], 1)
    return gone


@dataclass(frozen=True, slots=True)
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


@dataclass(slots=True)
class TranslationCaches:
    """What one IOMMU remembers of page tables. Domains are told apart by their addresses.

    A set of an IOTLB with ways is chosen by the low bits of the page number.
    """

    sizes: CacheSizes = field(default_factory=CacheSizes)
    _n: Ints = field(init=False)
    _caches: LruSets = field(init=False)

    def __post_init__(self) -> None:
        self._n, self._caches = numbers(), make_caches(self.sizes)

    @property
    def counts(self) -> MissCounts:
        """So far."""
        places = (ACCESSES, IOTLB_MISSES, L1_MISSES, L2_MISSES, L3_MISSES)
        return MissCounts(*self._n[list(places)].tolist())

    def translate(self, iovas: Keys, page_shift: Shift = PAGE_SHIFT) -> NDArray[np.int8]:
        """Page-table reads (0 to 4) of each access, in order.

        Args:
            iovas: addresses in bytes, shape (n,); an access does not cross a page.
            page_shift: log2 of the size of the page each lies in, 12 to 38: one for all, or
                shape (n,).

        Raises:
            ModelError: a page size that page tables do not have.
        """
        pfns, shifts = _accesses(iovas, page_shift)
        reads = np.zeros(len(iovas), np.int8)
        _look_up_all(self._n, self._caches, pfns, shifts, reads)
        return reads

    def invalidate(
        self, iovas: Keys, page_shift: Shift = PAGE_SHIFT, walk_caches: bool = True
    ) -> int:
        """Forgets the pages at ``iovas``; the number of IOTLB entries that went.

        ``walk_caches``: as Linux on VT-d, drop the entries above these pages too; F&S keeps them.
        """
        pfns, shifts = _accesses(iovas, page_shift)
        return _forget_each(self._caches, pfns, shifts, walk_caches)

    def invalidate_all(self) -> None:
        """A domain-wide or global invalidation."""
        forget_all(self._caches)


def _accesses(iovas: Keys, page_shift: Shift) -> tuple[Keys, Keys]:
    shifts = np.array(np.broadcast_to(page_shift, iovas.shape), np.int64)
    if shifts.size and not (shifts.min() >= PAGE_SHIFT and shifts.max() < L1_SHIFT):
        raise ModelError(
            f"page_shift {int(shifts.min())}..{int(shifts.max())}: pages are 2^{PAGE_SHIFT} to "
            f"2^{L1_SHIFT - 1} bytes"
        )
    return np.ascontiguousarray(iovas >> PAGE_SHIFT), shifts
