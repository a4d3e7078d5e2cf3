# SPDX-License-Identifier: MIT
"""Where the IOMMU's numbers are kept: places in its arrays ``n``, ``f`` and ``par``.

Each part of the model has kernels over the same three arrays, alone (behind the class of its name)
or together (:mod:`emulator.iommu.model.unit`), so a count has one place and one meaning.
"""

from __future__ import annotations

import numpy as np

from emulator.kernel import Floats, Ints

COUNTERS = (
    "maps",
    "unmaps",
    "refused",
    "invalidations",
    "full_flushes",
    "timer_flushes",
    "accesses",
    "iotlb_misses",
    "l1_misses",
    "l2_misses",
    "l3_misses",
    "magazine_allocs",
    "magazine_frees",
    "depot_gets",
    "depot_puts",
    "tree_allocs",
    "tree_frees",
    "tree_visits",
    "tree_retries",
    "put_calls",
    "indirect_calls",
    "stuff_calls",
    "tce_entries",
    "stale_ranges",
)
"""What ``n`` begins with, by name. A search of the tree, or of Power's bitmap, that failed is a
retry; stale ranges are those of a lazy queue that have ended."""

(
    MAPS,
    UNMAPS,
    REFUSED,
    INVALIDATIONS,
    FULL_FLUSHES,
    TIMER_FLUSHES,
    ACCESSES,
    IOTLB_MISSES,
    L1_MISSES,
    L2_MISSES,
    L3_MISSES,
    MAGAZINE_ALLOCS,
    MAGAZINE_FREES,
    DEPOT_GETS,
    DEPOT_PUTS,
    TREE_ALLOCS,
    TREE_FREES,
    TREE_VISITS,
    TREE_RETRIES,
    PUT_CALLS,
    INDIRECT_CALLS,
    STUFF_CALLS,
    TCE_ENTRIES,
    STALE_RANGES,
) = range(len(COUNTERS))

_STATE = len(COUNTERS)
ENDED, ENDED_LOST = _STATE, _STATE + 1
"""In ``n``: ranges in ``ended``; ranges for which it had no room because nobody drained it."""
LONGEST_SEARCH, RANGES, START, LIMIT, LOW_SLOTS, TOO_LARGE = range(_STATE + 2, _STATE + 8)
"""In ``n``, of the tree: see :mod:`emulator.iommu.model.iova_tree`."""
TOPS, PLACES = _STATE + 8, _STATE + 10
"""In ``n``, two each (any address; below 4 GiB): where searches of the tree begin."""
SPARE_MAGAZINES, MAGAZINES_USED, DEPOT_LIMIT, TIMER_CPU = range(_STATE + 12, _STATE + 16)
HINTS = _STATE + 16
"""In ``n``, one for each pool of Power's bitmap: where its next search begins."""
POOLS = 5
"""Of Power's bitmap: four for small ranges, one for large."""
MAGAZINE_ORDERS, MAGAZINE_CPUS = HINTS + POOLS, HINTS + POOLS + 1
"""In ``n``: sizes that have magazines, and CPUs that do; the arrays may have room for more."""
NUMBERS = HINTS + POOLS + 2

IOVA_NS, PAGE_TABLE_NS, INVALIDATION_NS, WAIT_NS, TIMER_NS = range(5)
"""In ``f``: CPU time by what it went into. WAIT_NS is behind other CPUs, at whatever they share;
TIMER_NS is that of lazy timers, waits included, and on no caller's clock."""
TIMER_AT, STALE_BYTE_NS, LONGEST_STALE_NS = 5, 6, 7
"""In ``f``: when the lazy timer fires (inf: not armed); how stale ranges were that have ended."""
_SERVERS = 8
SERVER_NUMBERS, CALENDAR = 5, 2048
SERVER_SIZE = SERVER_NUMBERS + 2 * CALENDAR
TREE_LOCK, DEPOT_LOCK, INVALIDATION_QUEUE, HYPERVISOR, POOL_LOCKS = range(
    _SERVERS, _SERVERS + 5 * SERVER_SIZE, SERVER_SIZE
)
"""In ``f``: servers (see :mod:`emulator.iommu.model.contention`); POOL_LOCKS begins a row of them,
one for each pool of Power's bitmap."""
TIMES = POOL_LOCKS + POOLS * SERVER_SIZE

(
    TRANSLATION,
    INVALIDATION,
    BATCH_INVALIDATION,
    FORGET_WALKS,
    MAP_NS,
    UNMAP_NS,
    MAP_NEXT_PAGE_NS,
    UNMAP_NEXT_PAGE_NS,
    MAGAZINE_ALLOC_NS,
    MAGAZINE_FREE_NS,
    DEPOT_NS,
    TREE_ALLOC_NS,
    TREE_FREE_NS,
    VISIT_NS,
    SYNC_NS,
    QUEUE_NS,
    QUEUE_CAPACITY,
    TIMEOUT_NS,
    PUT_NS,
    INDIRECT_NS,
    STUFF_NS,
    ENTRY_NS,
    ENTRIES_PER_CALL,
    CEILING_PER_S,
    PARAMETERS,
) = range(25)
"""In ``par``, what a preset says, and two that none does: BATCH_INVALIDATION, ranges that one
invalidation covers when several are unmapped at once (1: as Linux); FORGET_WALKS, whether an
invalidation of pages drops the walk caches above them too (1: as Linux on VT-d)."""

IDENTITY, PAGE_TABLES, TCE = 0, 1, 2
"""Values of TRANSLATION; a direct window is an identity too: its offset is the caller's."""
NO_INVALIDATION, STRICT, QUEUED = 0, 1, 2
"""Values of INVALIDATION; lazy and single queue differ in their queues only."""


def numbers() -> Ints:
    """``n``, all 0."""
    return np.zeros(NUMBERS, np.int64)


def times() -> Floats:
    """``f``, all 0, without a timer."""
    new = np.zeros(TIMES)
    new[TIMER_AT] = np.inf
    return new
