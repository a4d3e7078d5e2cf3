# SPDX-License-Identifier: MIT
"""Per-CPU magazines of IOVA ranges, a depot of full ones, and the tree behind them, as kernels.

Since 2016 ranges of up to 32 pages are recycled through magazines of 127, two for each CPU and
size; a CPU that runs out takes a full one from the depot, a CPU with two full ones leaves one
there. Before, and for larger ranges still, each allocation and free goes to the tree, under one
lock. The search of the tree is that of recent kernels in both cases. Constants as in
drivers/iommu/iova.c.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.iommu.model.iova_tree import NO_RANGE, order_of, tree_allocate, tree_free
from emulator.iommu.model.places import (
    DEPOT_GETS,
    DEPOT_LIMIT,
    DEPOT_PUTS,
    MAGAZINE_ALLOCS,
    MAGAZINE_CPUS,
    MAGAZINE_FREES,
    MAGAZINE_ORDERS,
    MAGAZINES_USED,
    SPARE_MAGAZINES,
)
from emulator.kernel import Ints, kernel

MAGAZINE_SIZE = 127
ORDERS = 6
"""IOVA_RANGE_CACHE_MAX_SIZE: sizes of 1 to 32 pages, powers of two."""
UNLIMITED = 1 << 62

LOADED, PREVIOUS = 0, 1
"""A CPU's magazines in ``pairs``; in the depot's row, the first full magazine and how many."""
DEPOT = -1
"""The row of ``pairs`` after those of the CPUs."""


class IovaSpace(NamedTuple):
    """nodes: of the tree; magazines: int64[m, 128]; pairs: int64[orders, CPUs + 1, 2].

    (With TCEs, ``nodes`` is the bitmap of :mod:`emulator.iommu.model.tce_bitmap`.)
    A magazine's first element says how many pfns follow, and in the depot or among the spare ones
    which magazine is the next: 0 is none.
    """

    nodes: Ints
    magazines: Ints
    pairs: Ints


def make_space(
    n: Ints, nodes: Ints, cpus: int, magazines: bool, depot_limit: int, room: int | None = None
) -> IovaSpace:
    """Empty magazines over the tree of ``nodes``; arrays with room for ``room`` CPUs."""
    room = cpus if room is None else room
    orders = ORDERS if magazines else 0
    owned = orders * cpus * 2
    most = ORDERS * room * 2 + len(nodes) // MAGAZINE_SIZE + 2
    pairs = np.zeros((ORDERS, room + 1, 2), np.int64)
    pairs[:orders, :cpus] = np.arange(1, owned + 1).reshape(orders, cpus, 2)
    n[MAGAZINE_ORDERS], n[MAGAZINE_CPUS] = orders, cpus
    n[MAGAZINES_USED], n[DEPOT_LIMIT] = owned, depot_limit
    return IovaSpace(nodes, np.zeros((most, MAGAZINE_SIZE + 1), np.int64), pairs)


@kernel
def take_range(n: Ints, space: IovaSpace, cpu: int, pages: int) -> int:
    """The first pfn of a new range, or NO_RANGE when even with empty magazines there is none.

    A range that fits the magazines is rounded up to a power of two.
    """
    order = order_of(pages)
    if order < n[MAGAZINE_ORDERS]:
        pfn = _pop(n, space, order, cpu)
        if pfn != NO_RANGE:
            return pfn
        pages = 1 << order
    pfn = tree_allocate(n, space.nodes, pages)
    if pfn == NO_RANGE and flush_magazines(n, space) > 0:
        pfn = tree_allocate(n, space.nodes, pages)
    return pfn


@kernel
def give_range(n: Ints, space: IovaSpace, cpu: int, pfn: int, pages: int) -> None:
    """Takes the range at ``pfn``, which was taken for ``pages``, back."""
    order = order_of(pages)
    if order < n[MAGAZINE_ORDERS]:
        _push(n, space, order, cpu, pfn)
    else:
        tree_free(n, space.nodes, pfn)


@kernel
def flush_magazines(n: Ints, space: IovaSpace) -> int:
    """Empties all magazines and depots into the tree; the ranges freed."""
    freed = 0
    for order in range(n[MAGAZINE_ORDERS]):
        for cpu in range(n[MAGAZINE_CPUS]):
            freed += _to_tree(n, space, space.pairs[order, cpu, LOADED])
            freed += _to_tree(n, space, space.pairs[order, cpu, PREVIOUS])
        while space.pairs[order, DEPOT, LOADED] != 0:
            freed += _depot_to_tree(n, space, order)
    return freed


@kernel
def shrink_depots(n: Ints, space: IovaSpace) -> int:
    """Of each depot that has more magazines than there are CPUs, one goes to the tree."""
    freed = 0
    for order in range(n[MAGAZINE_ORDERS]):
        if space.pairs[order, DEPOT, 1] > n[MAGAZINE_CPUS]:
            freed += _depot_to_tree(n, space, order)
    return freed


@kernel
def _pop(n: Ints, space: IovaSpace, order: int, cpu: int) -> int:
    loaded = space.pairs[order, cpu, LOADED]
    count = space.magazines[loaded, 0]
    if count == 0:
        loaded = _load_full(n, space, order, cpu)
        count = space.magazines[loaded, 0]
        if count == 0:
            return NO_RANGE
    space.magazines[loaded, 0] = count - 1
    n[MAGAZINE_ALLOCS] += 1
    return space.magazines[loaded, count]


@kernel
def _push(n: Ints, space: IovaSpace, order: int, cpu: int, pfn: int) -> None:
    loaded = space.pairs[order, cpu, LOADED]
    if space.magazines[loaded, 0] == MAGAZINE_SIZE:
        loaded = _load_empty(n, space, order, cpu)
    count = space.magazines[loaded, 0] + 1
    space.magazines[loaded, 0] = count
    space.magazines[loaded, count] = pfn
    n[MAGAZINE_FREES] += 1


@kernel
def _load_full(n: Ints, space: IovaSpace, order: int, cpu: int) -> int:
    """Loads the previous magazine or one from the depot; what is loaded then, maybe empty."""
    pairs = space.pairs
    if space.magazines[pairs[order, cpu, PREVIOUS], 0] > 0:
        return _swap(pairs, order, cpu)
    if pairs[order, DEPOT, LOADED] != 0:
        _spare(n, space, pairs[order, cpu, LOADED])
        pairs[order, cpu, LOADED] = _from_depot(space, order)
        n[DEPOT_GETS] += 1
    return pairs[order, cpu, LOADED]


@kernel
def _load_empty(n: Ints, space: IovaSpace, order: int, cpu: int) -> int:
    """Loads the previous magazine, or a spare one after the full one went to the depot."""
    pairs = space.pairs
    if space.magazines[pairs[order, cpu, PREVIOUS], 0] < MAGAZINE_SIZE:
        return _swap(pairs, order, cpu)
    loaded = pairs[order, cpu, LOADED]
    if pairs[order, DEPOT, 1] >= n[DEPOT_LIMIT]:
        _to_tree(n, space, loaded)
        return loaded
    space.magazines[loaded, 0] = pairs[order, DEPOT, LOADED]
    pairs[order, DEPOT, LOADED] = loaded
    pairs[order, DEPOT, 1] += 1
    n[DEPOT_PUTS] += 1
    pairs[order, cpu, LOADED] = _unused(n, space)
    return pairs[order, cpu, LOADED]


@kernel
def _swap(pairs: Ints, order: int, cpu: int) -> int:
    loaded = pairs[order, cpu, PREVIOUS]
    pairs[order, cpu, PREVIOUS] = pairs[order, cpu, LOADED]
    pairs[order, cpu, LOADED] = loaded
    return loaded


@kernel
def _from_depot(space: IovaSpace, order: int) -> int:
    """Takes a full magazine out; there must be one."""
    taken = space.pairs[order, DEPOT, LOADED]
    space.pairs[order, DEPOT, LOADED] = space.magazines[taken, 0]
    space.pairs[order, DEPOT, 1] -= 1
    space.magazines[taken, 0] = MAGAZINE_SIZE
    return taken


@kernel
def _unused(n: Ints, space: IovaSpace) -> int:
    """An empty magazine."""
    magazine = n[SPARE_MAGAZINES]
    if magazine == 0:
        n[MAGAZINES_USED] += 1
        return n[MAGAZINES_USED]
    n[SPARE_MAGAZINES] = space.magazines[magazine, 0]
    space.magazines[magazine, 0] = 0
    return magazine


@kernel
def _spare(n: Ints, space: IovaSpace, magazine: int) -> None:
    """Puts an empty magazine away."""
    space.magazines[magazine, 0] = n[SPARE_MAGAZINES]
    n[SPARE_MAGAZINES] = magazine


@kernel
def _to_tree(n: Ints, space: IovaSpace, magazine: int) -> int:
    """Empties a magazine; the ranges freed."""
    count = space.magazines[magazine, 0]
    for place in range(1, count + 1):
        tree_free(n, space.nodes, space.magazines[magazine, place])
    space.magazines[magazine, 0] = 0
    return count


@kernel
def _depot_to_tree(n: Ints, space: IovaSpace, order: int) -> int:
    magazine = _from_depot(space, order)
    freed = _to_tree(n, space, magazine)
    _spare(n, space, magazine)
    return freed
