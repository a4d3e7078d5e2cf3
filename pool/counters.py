# SPDX-License-Identifier: MIT
"""What every strategy counts, exactly. Prices are somebody else's business.

A kernel counts in an int64 array at the places named here; a strategy's own counters come behind
them, at :data:`OWN` and up. :class:`PoolCounters` reads the same array by name.
"""

from __future__ import annotations

from emulator.kernel import Ints

COMMON = {
    "taken": "buffers handed out",
    "given": "buffers given back",
    "allocations": "pages that came from the page allocator and entered the pool (hold count)",
    "released": "pages that left the pool to the page allocator (release count)",
    "maps": "successful mappings: IOVA ranges that came to life",
    "unmaps": "IOVA ranges that ended; a strict IOMMU owes one invalidation for each",
    "mapped_pages": "page-table entries written by those maps",
    "unmapped_pages": "page-table entries cleared by those unmaps",
    "map_errors": "refused mappings; their pages were freed at once",
    "recycled_cache": "buffers given back to the store of the same CPU",
    "recycled_ring": "buffers given back to the store that other CPUs reach",
    "ring_full": "times that store had no room",
    "atomics": "atomic read-modify-writes, a lock counted as one",
    "references": "those of them that change a reference count apart from allocating and freeing",
    "ring_ops": "entries put into or taken out of a store that other CPUs reach",
    "bulk_calls": "calls of the page allocator for more than one page",
    "single_calls": "calls of the page allocator for one block",
    "syncs_for_device": "buffers handed to the device by a sync",
    "syncs_for_cpu": "buffers handed to the CPU by a sync",
    "copies": "buffers whose payload was copied",
}
"""Name of each common counter, in order, and what it counts."""

(
    TAKEN,
    GIVEN,
    ALLOCATIONS,
    RELEASED,
    MAPS,
    UNMAPS,
    MAPPED_PAGES,
    UNMAPPED_PAGES,
    MAP_ERRORS,
    RECYCLED_CACHE,
    RECYCLED_RING,
    RING_FULL,
    ATOMICS,
    REFERENCES,
    RING_OPS,
    BULK_CALLS,
    SINGLE_CALLS,
    SYNCS_FOR_DEVICE,
    SYNCS_FOR_CPU,
    COPIES,
    OWN,
) = range(len(COMMON) + 1)


class PoolCounters:
    """A pool's counters by name; ``own`` names those of its strategy, ``counts`` holds them all."""

    __slots__ = ("_counts", "_places")

    def __init__(self, counts: Ints, own: tuple[str, ...] = ()) -> None:
        self._counts = counts
        self._places = {name: place for place, name in enumerate((*COMMON, *own))}

    def __getattr__(self, name: str) -> int:
        try:
            return int(self._counts[self._places[name]])
        except KeyError:
            raise AttributeError(f"no counter {name!r}: {', '.join(self._places)}") from None

    def as_dict(self) -> dict[str, int]:
        """All of them."""
        return {name: int(self._counts[place]) for name, place in self._places.items()}

    @property
    def inflight(self) -> int:
        """Pages that entered the pool and did not leave it: lent, cached or in the ring."""
        return int(self._counts[ALLOCATIONS] - self._counts[RELEASED])

    @property
    def outstanding(self) -> int:
        """Buffers handed out and not yet given back."""
        return int(self._counts[TAKEN] - self._counts[GIVEN])
