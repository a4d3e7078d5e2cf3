# SPDX-License-Identifier: MIT
"""The ordered set of IOVA ranges in which Linux looks for a free one, with the steps it takes.

The search goes down from where the last allocation was made (one such place below 4 GiB, one for
all), from neighbour to neighbour, until a hole is large enough; a search that reaches the bottom
starts once more from the top. A free above that place moves it back up, so the next search walks
over all that lies between: this is why the cost grows with what is mapped.

Neighbours are linked by address; the balanced tree of the kernel serves to find a range to free.
Here the first page of a range is its place in an array. The array holds all pages below 4 GiB and,
as ranges are given out from the top down, only the highest ones above that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulator.iommu.model.errors import IovaNotAllocatedError, IovaSpaceFullError, ModelError
from emulator.iommu.model.places import (
    LIMIT,
    LONGEST_SEARCH,
    LOW_SLOTS,
    PLACES,
    RANGES,
    START,
    TOO_LARGE,
    TOPS,
    TREE_ALLOCS,
    TREE_FREES,
    TREE_RETRIES,
    TREE_VISITS,
    numbers,
)
from emulator.kernel import Ints, compiled, kernel

PAGE_SHIFT = 12
LOW_LIMIT_PFN = 1 << (32 - PAGE_SHIFT)
HIGH_PAGES = 1 << 20
"""Of the space above 4 GiB, as many pages from the top down are kept track of."""
NO_RANGE = -1
_ANY_SIZE = 1 << 62

LOW, HIGH, BELOW, ABOVE = range(4)
"""Places in a row of ``nodes``: first and last pfn, and the rows of the neighbours. A row of 0 is
no range; the last two rows are marks that hold nothing and so end before they start."""


def make_tree(n: Ints, limit: int, start: int, high_pages: int = HIGH_PAGES) -> Ints:
    """``nodes`` of an empty space of pfns from ``start`` (at least 1) up to ``limit``."""
    low = min(limit, LOW_LIMIT_PFN)
    slots = low + (min(limit - low, high_pages) if limit > low else 0)
    nodes = np.zeros((slots + 2, 4), np.int64)
    top = low_top = slots
    nodes[0] = 0, start - 1, NO_RANGE, top
    nodes[top] = limit, limit, 0, NO_RANGE
    if limit > low:
        # Ranges are aligned to their size: none lies across 4 GiB, so a mark may stand there.
        low_top = slots + 1
        nodes[low_top] = low, low - 1, 0, top
        nodes[0, ABOVE] = nodes[top, BELOW] = low_top
    n[START], n[LIMIT], n[LOW_SLOTS], n[TOO_LARGE] = start, limit, low, _ANY_SIZE
    n[TOPS : TOPS + 2] = n[PLACES : PLACES + 2] = top, low_top
    return nodes


@kernel
def order_of(pages: int) -> int:
    """The power of 2 that is at least ``pages``."""
    order = 0
    while (1 << order) < pages:
        order += 1
    return order


@kernel
def slot_of(n: Ints, pfn: int) -> int:
    """The row of a range that begins at ``pfn``."""
    if pfn < n[LOW_SLOTS]:
        return pfn
    return n[LOW_SLOTS] + n[LIMIT] - 1 - pfn


@kernel
def tree_allocate(n: Ints, nodes: Ints, pages: int) -> int:
    """The first pfn of a free range, aligned to its size, below 4 GiB if there is one.

    NO_RANGE: there is none.
    """
    found = NO_RANGE
    if pages < n[TOO_LARGE]:
        found = _search(n, nodes, pages, 1)
    if found == NO_RANGE and n[TOPS] != n[TOPS + 1]:
        found = _search(n, nodes, pages, 0)
    if found != NO_RANGE:
        n[TREE_ALLOCS] += 1
        n[RANGES] += 1
    return found


@kernel
def tree_free(n: Ints, nodes: Ints, pfn: int) -> int:
    """Gives the range that begins at ``pfn`` back; its pages. There must be one."""
    gone = slot_of(n, pfn)
    below, above = nodes[gone, BELOW], nodes[gone, ABOVE]
    for low in range(2):
        if (low == 0 or pfn < LOW_LIMIT_PFN) and pfn >= nodes[n[PLACES + low], LOW]:
            n[PLACES + low] = above
    if pfn < LOW_LIMIT_PFN:
        n[TOO_LARGE] = _ANY_SIZE
    nodes[below, ABOVE] = above
    nodes[above, BELOW] = below
    pages = nodes[gone, HIGH] - pfn + 1
    nodes[gone, LOW] = 0
    n[TREE_FREES] += 1
    n[RANGES] -= 1
    return pages


@kernel
def _search(n: Ints, nodes: Ints, pages: int, low: int) -> int:
    place = n[PLACES + low]
    found = _descend(n, nodes, place, n[START], pages)
    if found == NO_RANGE and place != n[TOPS + low]:
        n[TREE_RETRIES] += 1
        found = _descend(n, nodes, n[TOPS + low], nodes[place, HIGH] + 1, pages)
    if found == NO_RANGE:
        if low == 1:
            n[TOO_LARGE] = pages
        return NO_RANGE
    n[PLACES + (found < LOW_LIMIT_PFN)] = slot_of(n, found)
    return found


@kernel
def _descend(n: Ints, nodes: Ints, above: int, floor: int, pages: int) -> int:
    """Takes the first hole below ``above`` that is large enough and not below ``floor``."""
    align = -(1 << order_of(pages))
    visits = 0
    found = NO_RANGE
    below = nodes[above, BELOW]
    while below != NO_RANGE:
        visits += 1
        first = (nodes[above, LOW] - pages) & align
        if first < floor:
            break
        if first > nodes[below, HIGH]:
            found = _insert(n, nodes, first, pages, below, above)
            break
        above = below
        below = nodes[below, BELOW]
    n[TREE_VISITS] += visits
    n[LONGEST_SEARCH] = max(n[LONGEST_SEARCH], visits)
    return found


@kernel
def _insert(n: Ints, nodes: Ints, first: int, pages: int, below: int, above: int) -> int:
    """Links a new range between its neighbours; NO_RANGE if the array does not reach it."""
    slot = slot_of(n, first)
    if slot >= n[TOPS]:
        return NO_RANGE
    nodes[slot, LOW] = first
    nodes[slot, HIGH] = first + pages - 1
    nodes[slot, BELOW] = below
    nodes[slot, ABOVE] = above
    nodes[below, ABOVE] = slot
    nodes[above, BELOW] = slot
    return first


_compiled_allocate = compiled(tree_allocate)
_compiled_free = compiled(tree_free)


@dataclass(frozen=True, slots=True)
class TreeCounts:
    """What the tree was asked for; ``visits`` are ranges stepped over by searches."""

    allocations: int = 0
    frees: int = 0
    visits: int = 0
    longest_search: int = 0
    retries: int = 0


class IovaTree:
    """Allocates ranges of page frame numbers from the top down, aligned to their own size.

    Args:
        bits: of an address of the device's DMA mask, 32 to 64.
        start_pfn: none is given out below it.

    Raises:
        ModelError: the bits are out of range or leave no space above ``start_pfn``.
    """

    def __init__(self, bits: int = 48, start_pfn: int = 1) -> None:
        if not 32 <= bits <= 64 or not 1 <= start_pfn < LOW_LIMIT_PFN:
            raise ModelError(f"{bits} bits from pfn {start_pfn}: 32 to 64 bits, below 4 GiB")
        self.n = numbers()
        self.nodes = make_tree(self.n, 1 << (bits - PAGE_SHIFT), start_pfn)

    def __len__(self) -> int:
        return int(self.n[RANGES])

    def __contains__(self, pfn: object) -> bool:
        if not isinstance(pfn, int) or not 0 < pfn < self.n[LIMIT]:
            return False
        slot = slot_of(self.n, pfn)
        return bool(slot < self.n[TOPS] and self.nodes[slot, LOW] == pfn)

    @property
    def counts(self) -> TreeCounts:
        """So far."""
        places = (TREE_ALLOCS, TREE_FREES, TREE_VISITS, LONGEST_SEARCH, TREE_RETRIES)
        return TreeCounts(*self.n[list(places)].tolist())

    def ranges(self) -> list[tuple[int, int]]:
        """(first pfn, pages) of all that is allocated, by address."""
        found, slot = [], int(self.nodes[0, ABOVE])
        while slot != self.n[TOPS]:
            low, high, _, above = self.nodes[slot].tolist()
            if slot < self.n[TOPS]:
                found.append((low, high - low + 1))
            slot = above
        return found

    def allocate(self, pages: int) -> int:
        """The first pfn of a free range of ``pages``, below 4 GiB if there is one.

        Raises:
            IovaSpaceFullError: there is none below the device's mask.
            ModelError: no pages.
        """
        if pages < 1:
            raise ModelError(f"an IOVA of {pages} pages: must be at least 1")
        pfn = _compiled_allocate(self.n, self.nodes, pages)
        if pfn == NO_RANGE:
            raise self.full(pages)
        return pfn

    def full(self, pages: int) -> IovaSpaceFullError:
        """The error of an allocation that failed."""
        limit = int(self.n[LIMIT])
        return IovaSpaceFullError(
            f"no {pages} free pages below pfn {limit:#x}: {len(self)} ranges are held"
        )

    def free(self, pfn: int) -> int:
        """Gives the range at ``pfn`` back; its pages.

        Raises:
            IovaNotAllocatedError: no range begins there.
        """
        if pfn not in self:
            raise IovaNotAllocatedError(f"no IOVA range begins at pfn {pfn:#x}")
        return _compiled_free(self.n, self.nodes, pfn)
