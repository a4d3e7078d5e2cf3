# SPDX-License-Identifier: MIT
"""Power's allocator of TCE entries: a bitmap in pools, searched next-fit, as kernels.

As in arch/powerpc/kernel/iommu.c: three quarters of the window are four pools, chosen by CPU, for
ranges of up to 15 pages; the rest is for larger ones. A search goes on where the last one of its
pool ended, small ones from the next block of 16 entries. A pool that is full is searched from its
start, then the other small pools are, then that of large ranges. Each pool has a lock of its own.

The bitmap is ``nodes`` with one column: 1 where an entry is taken; entry 0 always is.
"""

from __future__ import annotations

import numpy as np

from emulator.iommu.model.iova_tree import NO_RANGE
from emulator.iommu.model.places import (
    HINTS,
    LIMIT,
    POOLS,
    RANGES,
    TREE_ALLOCS,
    TREE_FREES,
    TREE_RETRIES,
)
from emulator.kernel import Ints, kernel

WINDOW_PAGES = 1 << 19
"""The default window is of 2 GiB."""
BLOCK = 16
LARGE = 15
_SMALL_POOLS = POOLS - 1


def make_bitmap(n: Ints, pages: int) -> Ints:
    """``nodes`` of an empty window of ``pages`` (WINDOW_PAGES at most)."""
    window = min(pages, WINDOW_PAGES)
    n[LIMIT] = window
    nodes = np.zeros((window, 4), np.int64)
    nodes[0, 0] = 1
    for pool in range(POOLS):
        n[HINTS + pool] = pool_start(n, pool)
    return nodes


@kernel
def pool_start(n: Ints, pool: int) -> int:
    """The first entry of a pool; that of pool POOLS is the end of the window."""
    if pool == POOLS:
        return n[LIMIT]
    return n[LIMIT] * 3 // 4 // _SMALL_POOLS * pool


@kernel
def pool_of(n: Ints, pfn: int) -> int:
    """The pool that an entry is in."""
    pool = _SMALL_POOLS
    while pfn < pool_start(n, pool):
        pool -= 1
    return pool


@kernel
def bitmap_allocate(n: Ints, nodes: Ints, cpu: int, pages: int) -> int:
    """The first of ``pages`` entries that are free; NO_RANGE: there are none."""
    pool = _SMALL_POOLS if pages > LARGE else cpu % _SMALL_POOLS
    found = _search(n, nodes, pool, n[HINTS + pool], pages)
    if found == NO_RANGE:
        n[TREE_RETRIES] += 1
        found = _search(n, nodes, pool, pool_start(n, pool), pages)
    for _ in range(1, POOLS):
        if found == NO_RANGE:
            pool = (pool + 1) % POOLS
            found = _search(n, nodes, pool, pool_start(n, pool), pages)
    if found == NO_RANGE:
        return NO_RANGE
    nodes[found : found + pages] = 1
    end = found + pages
    n[HINTS + pool] = end if pages > LARGE else -(-end // BLOCK) * BLOCK
    n[TREE_ALLOCS] += 1
    n[RANGES] += 1
    return found


@kernel
def bitmap_free(n: Ints, nodes: Ints, pfn: int, pages: int) -> None:
    """Gives entries back; they must be taken."""
    nodes[pfn : pfn + pages] = 0
    n[TREE_FREES] += 1
    n[RANGES] -= 1


@kernel
def _search(n: Ints, nodes: Ints, pool: int, start: int, pages: int) -> int:
    """From ``start`` to the end of the pool; a hint past that begins again."""
    end = pool_start(n, pool + 1)
    first = start if start < end else pool_start(n, pool)
    while first + pages <= end:
        free = 0
        while free < pages and nodes[first + free, 0] == 0:
            free += 1
        if free == pages:
            return first
        first += free + 1
    return NO_RANGE
