# SPDX-License-Identifier: MIT
"""What it costs a CPU to get an IOVA and to give it back, and when it is done, as kernels.

A magazine is the CPU's own; the depot, the tree and each pool of Power's bitmap have a lock, for
which CPUs wait.
"""

from __future__ import annotations

from emulator.iommu.model.contention import spend_at
from emulator.iommu.model.magazines import give_range, take_range
from emulator.iommu.model.places import (
    DEPOT_GETS,
    DEPOT_LOCK,
    DEPOT_NS,
    DEPOT_PUTS,
    IOVA_NS,
    MAGAZINE_ALLOC_NS,
    MAGAZINE_ALLOCS,
    MAGAZINE_FREE_NS,
    MAGAZINE_FREES,
    POOL_LOCKS,
    SERVER_SIZE,
    TCE,
    TRANSLATION,
    TREE_ALLOC_NS,
    TREE_ALLOCS,
    TREE_FREE_NS,
    TREE_FREES,
    TREE_LOCK,
    TREE_VISITS,
    VISIT_NS,
)
from emulator.iommu.model.state import Iommu
from emulator.iommu.model.tce_bitmap import bitmap_allocate, bitmap_free, pool_of
from emulator.kernel import Ints, kernel


@kernel
def take_iova(io: Iommu, cpu: int, now: float, pages: int) -> tuple[int, float]:
    """A range of the allocator (NO_RANGE: there is none), and when the CPU has it."""
    n = io.n
    if io.par[TRANSLATION] == TCE:
        pfn = bitmap_allocate(n, io.space.nodes, cpu, pages)
        return pfn, spend_at(io.f, _pool_lock(n, max(pfn, 0)), now, io.par[TREE_ALLOC_NS], IOVA_NS)
    in_magazines, in_depot = n[MAGAZINE_ALLOCS], n[DEPOT_GETS]
    allocs, frees, visits = n[TREE_ALLOCS], n[TREE_FREES], n[TREE_VISITS]
    pfn = take_range(n, io.space, cpu, pages)
    if n[MAGAZINE_ALLOCS] != in_magazines:
        io.f[IOVA_NS] += io.par[MAGAZINE_ALLOC_NS]
        now += io.par[MAGAZINE_ALLOC_NS]
        if n[DEPOT_GETS] != in_depot:
            now = spend_at(io.f, DEPOT_LOCK, now, io.par[DEPOT_NS], IOVA_NS)
        return pfn, now
    own = (
        (n[TREE_ALLOCS] - allocs) * io.par[TREE_ALLOC_NS]
        + (n[TREE_FREES] - frees) * io.par[TREE_FREE_NS]
        + (n[TREE_VISITS] - visits) * io.par[VISIT_NS]
    )
    return pfn, spend_at(io.f, TREE_LOCK, now, own, IOVA_NS)


@kernel
def give_iova(io: Iommu, cpu: int, now: float, pfn: int, pages: int, category: int) -> float:
    """Gives a range back to the allocator, at the expense of ``category``; when that is done."""
    n = io.n
    if io.par[TRANSLATION] == TCE:
        bitmap_free(n, io.space.nodes, pfn, pages)
        return spend_at(io.f, _pool_lock(n, pfn), now, io.par[TREE_FREE_NS], category)
    in_magazines, in_depot, frees = n[MAGAZINE_FREES], n[DEPOT_PUTS], n[TREE_FREES]
    give_range(n, io.space, cpu, pfn, pages)
    if n[MAGAZINE_FREES] != in_magazines:
        io.f[category] += io.par[MAGAZINE_FREE_NS]
        now += io.par[MAGAZINE_FREE_NS]
    if n[DEPOT_PUTS] != in_depot:
        now = spend_at(io.f, DEPOT_LOCK, now, io.par[DEPOT_NS], category)
    if n[TREE_FREES] != frees:
        own = (n[TREE_FREES] - frees) * io.par[TREE_FREE_NS]
        now = spend_at(io.f, TREE_LOCK, now, own, category)
    return now


@kernel
def _pool_lock(n: Ints, pfn: int) -> int:
    return POOL_LOCKS + SERVER_SIZE * pool_of(n, pfn)
