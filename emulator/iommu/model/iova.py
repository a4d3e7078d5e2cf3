# SPDX-License-Identifier: MIT
"""Linux's IOVA allocator on its own: what operations cost, and batches of them, checked.

How it works: :mod:`emulator.iommu.model.magazines`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.errors import IovaNotAllocatedError, ModelError
from emulator.iommu.model.iova_tree import NO_RANGE, IovaTree, tree_free
from emulator.iommu.model.magazines import (
    MAGAZINE_SIZE,
    UNLIMITED,
    IovaSpace,
    flush_magazines,
    give_range,
    make_space,
    shrink_depots,
    take_range,
)
from emulator.iommu.model.places import (
    DEPOT_GETS,
    DEPOT_PUTS,
    MAGAZINE_ALLOCS,
    MAGAZINE_FREES,
    TREE_ALLOCS,
    TREE_FREES,
    TREE_VISITS,
)
from emulator.kernel import Ints, compiled

__all__ = ["DEPOT_SHRINK_NS", "MAGAZINE_SIZE", "IovaAllocator", "IovaCosts", "IovaCounts"]

DEPOT_SHRINK_NS = 100_000_000
_COUNTS = (
    MAGAZINE_ALLOCS,
    MAGAZINE_FREES,
    DEPOT_GETS,
    DEPOT_PUTS,
    TREE_ALLOCS,
    TREE_FREES,
    TREE_VISITS,
)

Pfns = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
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


@compiled
def _take_all(n: Ints, space: IovaSpace, cpu: int, pages: int, pfns: Ints) -> bool:
    """Fills ``pfns``, or takes nothing."""
    for i in range(len(pfns)):
        pfns[i] = take_range(n, space, cpu, pages)
        if pfns[i] == NO_RANGE:
            for taken in range(i):
                tree_free(n, space.nodes, pfns[taken])
            return False
    return True


@compiled
def _give_all(n: Ints, space: IovaSpace, cpu: int, pfns: Ints, pages: Ints) -> None:
    for i in range(len(pfns)):
        give_range(n, space, cpu, pfns[i], pages[i])


_flush = compiled(flush_magazines)
_shrink = compiled(shrink_depots)


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
        self.cpus = cpus
        self.tree = IovaTree(bits, start_pfn)
        limit = UNLIMITED if depot_limit is None else depot_limit
        self._n = self.tree.n
        self._space = make_space(self._n, self.tree.nodes, cpus, magazines, limit)
        self._held: dict[int, int] = {}

    @property
    def counts(self) -> IovaCounts:
        """So far."""
        return IovaCounts(*self._n[list(_COUNTS)].tolist())

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
        if pages < 1:
            raise ModelError(f"an IOVA of {pages} pages: must be at least 1")
        pfns = np.zeros(count, np.int64)
        if not _take_all(self._n, self._space, cpu, pages, pfns):
            raise self.tree.full(pages)
        self._held.update(dict.fromkeys(pfns.tolist(), pages))
        return pfns

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
        sizes = np.array([self._held.pop(pfn) for pfn in numbers], np.int64)
        _give_all(self._n, self._space, cpu, np.array(numbers, np.int64), sizes)

    def shrink_depot(self) -> int:
        """One round of the kernel's worker, which runs every ``DEPOT_SHRINK_NS``.

        Of each depot that has more magazines than there are CPUs, one goes to the tree.
        Returns the ranges freed.
        """
        return _shrink(self._n, self._space)

    def flush(self) -> int:
        """Empties all magazines and depots into the tree; the ranges freed."""
        return _flush(self._n, self._space)
