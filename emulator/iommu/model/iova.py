# SPDX-License-Identifier: MIT
"""Linux's IOVA allocator: per-CPU magazines, a depot of full ones, and the tree behind them.

Since 2016 ranges of up to 32 pages are recycled through magazines of 127, two for each CPU and
size; a CPU that runs out takes a full one from the depot, a CPU with two full ones leaves one
there. Before, and for larger ranges still, each allocation and free goes to the tree, under one
lock. The search of the tree is that of recent kernels in both cases. Constants as in
drivers/iommu/iova.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.errors import (
    IovaNotAllocatedError,
    IovaSpaceFullError,
    ModelError,
)
from emulator.iommu.model.iova_tree import IovaTree

MAGAZINE_SIZE = 127
ORDERS = 6
DEPOT_SHRINK_NS = 100_000_000

Pfns = NDArray[np.int64]


@dataclass(slots=True)
class IovaCounts:
    """Operations by where they ended; an operation on the depot moves a whole magazine."""

    magazine_allocs: int = 0
    magazine_frees: int = 0
    depot_gets: int = 0
    depot_puts: int = 0
    tree_allocs: int = 0
    tree_frees: int = 0
    tree_visits: int = 0


@dataclass(frozen=True, slots=True)
class IovaCosts:
    """ns of each part: an operation on a magazine, moving one to or from the depot, on the tree.

    A tree operation costs ``tree_*_ns`` and ``visit_ns`` for each range its search steps over.
    """

    magazine_alloc_ns: int = 0
    magazine_free_ns: int = 0
    depot_ns: int = 0
    tree_alloc_ns: int = 0
    tree_free_ns: int = 0
    visit_ns: int = 0

    def price_ns(self, counts: IovaCounts) -> int:
        """The CPU time of ``counts``, without waiting for locks."""
        return (
            counts.magazine_allocs * self.magazine_alloc_ns
            + counts.magazine_frees * self.magazine_free_ns
            + (counts.depot_gets + counts.depot_puts) * self.depot_ns
            + counts.tree_allocs * self.tree_alloc_ns
            + counts.tree_frees * self.tree_free_ns
            + counts.tree_visits * self.visit_ns
        )


@dataclass(slots=True)
class _Pair:
    """A CPU's magazines for one size: first pfns, the last is the next to be given out."""

    loaded: list[int] = field(default_factory=list)
    previous: list[int] = field(default_factory=list)


class IovaAllocator:
    """Gives out and takes back ranges of pages, in batches, and counts what that took.

    Args:
        cpus: that allocate and free; ``cpu`` arguments are below it.
        magazines: False: as before 2016, everything from the tree.
        bits, start_pfn: see :class:`IovaTree`.
        depot_limit: magazines of one size the depot holds (32 before Linux 6.6, which holds
            any number and shrinks them later, see :meth:`shrink_depot`).
    """

    def __init__(
        self,
        cpus: int = 1,
        magazines: bool = True,
        bits: int = 48,
        start_pfn: int = 1,
        depot_limit: int | None = None,
    ) -> None:
        if cpus < 1:
            raise ModelError(f"{cpus} CPUs: must be at least 1")
        self.counts = IovaCounts()
        self.cpus = cpus
        self.tree = IovaTree(bits, start_pfn)
        self._orders = ORDERS if magazines else 0
        self._pairs = [[_Pair() for _ in range(cpus)] for _ in range(self._orders)]
        self._depots: list[list[list[int]]] = [[] for _ in range(self._orders)]
        self._depot_limit = depot_limit
        self._held: dict[int, int] = {}

    @property
    def held(self) -> int:
        """Ranges that somebody holds; those in magazines are not."""
        return len(self._held)

    @property
    def cached(self) -> int:
        """Ranges in magazines and depot."""
        return len(self.tree) - len(self._held)

    def allocate(self, cpu: int, pages: int, count: int = 1) -> Pfns:
        """First pfns of ``count`` new ranges of ``pages`` each, shape (count,).

        A range that fits the magazines is rounded up to a power of two.

        Raises:
            IovaSpaceFullError: the space is full even after all magazines were emptied; nothing
                is allocated.
        """
        order = self._order(pages)
        if order is None:
            taken = self._from_tree(pages, count, [])
        else:
            pair = self._pairs[order][cpu]
            taken = self._from_magazines(order, pair, count)
            taken = self._from_tree(1 << order, count - len(taken), taken)
        self._held.update(dict.fromkeys(taken, pages))
        return np.array(taken, np.int64)

    def free(self, cpu: int, pfns: Pfns) -> None:
        """Takes ranges back, in order, whatever their sizes.

        Raises:
            IovaNotAllocatedError: one is not held (or comes twice): none is taken back.
        """
        numbers = pfns.tolist()
        different = set(numbers)
        if len(different) != len(numbers) or not self._held.keys() >= different:
            wrong = [pfn for pfn in numbers if pfn not in self._held or numbers.count(pfn) > 1]
            raise IovaNotAllocatedError(f"free of IOVA pfn {wrong[0]:#x}, which nobody holds")
        sizes = [self._held.pop(pfn) for pfn in numbers]
        if len(set(sizes)) == 1:
            self._give_back(cpu, sizes[0], numbers)
            return
        for pfn, pages in zip(numbers, sizes, strict=True):
            self._give_back(cpu, pages, [pfn])

    def shrink_depot(self) -> int:
        """One round of the kernel's worker, which runs every ``DEPOT_SHRINK_NS``.

        Of each depot that has more magazines than there are CPUs, one goes to the tree.
        Returns the ranges freed.
        """
        freed = 0
        for depot in self._depots:
            if len(depot) > self.cpus:
                freed += self._to_tree(depot.pop())
        return freed

    def flush(self) -> int:
        """Empties all magazines and depots into the tree; the ranges freed."""
        freed = 0
        for pairs, depot in zip(self._pairs, self._depots, strict=True):
            for pair in pairs:
                freed += self._to_tree(pair.loaded) + self._to_tree(pair.previous)
                pair.loaded, pair.previous = [], []
            while depot:
                freed += self._to_tree(depot.pop())
        return freed

    def _order(self, pages: int) -> int | None:
        if pages < 1:
            raise ModelError(f"an IOVA of {pages} pages: must be at least 1")
        order = (pages - 1).bit_length()
        return order if order < self._orders else None

    def _from_magazines(self, order: int, pair: _Pair, count: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < count:
            if not pair.loaded:
                if pair.previous:
                    pair.loaded, pair.previous = pair.previous, pair.loaded
                elif self._depots[order]:
                    pair.loaded = self._depots[order].pop()
                    self.counts.depot_gets += 1
                else:
                    break
            some = min(count - len(taken), len(pair.loaded))
            taken += pair.loaded[: -some - 1 : -1]
            del pair.loaded[-some:]
        self.counts.magazine_allocs += len(taken)
        return taken

    def _from_tree(self, pages: int, count: int, taken: list[int]) -> list[int]:
        """Adds ``count`` ranges to ``taken``; on failure what was taken goes back to the tree."""
        for _ in range(count):
            try:
                taken.append(self._search(pages))
            except IovaSpaceFullError:
                self._to_tree(taken)
                raise
        return taken

    def _search(self, pages: int) -> int:
        before = self.tree.counts.visits
        try:
            pfn = self.tree.allocate(pages)
        except IovaSpaceFullError:
            if not self.flush():
                raise
            pfn = self.tree.allocate(pages)
        finally:
            self.counts.tree_visits += self.tree.counts.visits - before
        self.counts.tree_allocs += 1
        return pfn

    def _give_back(self, cpu: int, pages: int, pfns: list[int]) -> None:
        order = self._order(pages)
        if order is None:
            self._to_tree(pfns)
            return
        pair, start = self._pairs[order][cpu], 0
        while start < len(pfns):
            if len(pair.loaded) == MAGAZINE_SIZE:
                if len(pair.previous) < MAGAZINE_SIZE:
                    pair.loaded, pair.previous = pair.previous, pair.loaded
                else:
                    self._to_depot(order, pair.loaded)
                    pair.loaded = []
            some = pfns[start : start + MAGAZINE_SIZE - len(pair.loaded)]
            pair.loaded += some
            start += len(some)
        self.counts.magazine_frees += len(pfns)

    def _to_depot(self, order: int, magazine: list[int]) -> None:
        depot = self._depots[order]
        if self._depot_limit is not None and len(depot) >= self._depot_limit:
            self._to_tree(magazine)
            return
        depot.append(magazine)
        self.counts.depot_puts += 1

    def _to_tree(self, pfns: list[int]) -> int:
        for pfn in pfns:
            self.tree.free(pfn)
        self.counts.tree_frees += len(pfns)
        return len(pfns)
