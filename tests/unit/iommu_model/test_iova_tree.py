# SPDX-License-Identifier: MIT
"""The search for a free IOVA: the same ranges and steps as a plain list; Power's bitmap."""

import bisect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.iommu.model import tce_bitmap
from emulator.iommu.model.errors import IovaSpaceFullError
from emulator.iommu.model.iova_tree import LOW_LIMIT_PFN, NO_RANGE, IovaTree
from emulator.iommu.model.places import TREE_RETRIES, numbers
from emulator.iommu.model.tce_bitmap import BLOCK, LARGE, POOLS, pool_of, pool_start

ROOM = 96


class PlainTree:
    """drivers/iommu/iova.c over a sorted list of (low, high); nodes cached by their low end."""

    def __init__(self, limit, start):
        self.start, self.visits, self.too_large = start, 0, 1 << 62
        self.held = [(0, start - 1), (limit, limit)]
        self.tops = {False: (limit, limit), True: (limit, limit)}
        if limit > LOW_LIMIT_PFN:
            self.tops[True] = (LOW_LIMIT_PFN, LOW_LIMIT_PFN - 1)
            bisect.insort(self.held, self.tops[True])
        self.places = dict(self.tops)

    def descend(self, node, floor, pages):
        size = 1
        while size < pages:
            size *= 2
        place = self.held.index(node)
        while place > 0:
            self.visits += 1
            first = (self.held[place][0] - pages) // size * size
            if first < floor:
                return None
            if first > self.held[place - 1][1]:
                self.held.insert(place, (first, first + pages - 1))
                return self.held[place]
            place -= 1
        return None

    def search(self, pages, low):
        place = self.places[low]
        found = self.descend(place, self.start, pages)
        if found is None and place != self.tops[low]:
            found = self.descend(self.tops[low], place[1] + 1, pages)
        if found is not None:
            self.places[found[1] < LOW_LIMIT_PFN] = found
        elif low:
            self.too_large = pages
        return found

    def allocate(self, pages):
        found = self.search(pages, True) if pages < self.too_large else None
        if found is None and self.tops[True] != self.tops[False]:
            found = self.search(pages, False)
        return None if found is None else found[0]

    def free(self, pfn):
        (node,) = [each for each in self.held if each[0] == pfn and each[1] >= pfn]
        above = self.held[self.held.index(node) + 1]
        for low in (False, True):
            if (not low or pfn < LOW_LIMIT_PFN) and pfn >= self.places[low][0]:
                self.places[low] = above
        if pfn < LOW_LIMIT_PFN:
            self.too_large = 1 << 62
        self.held.remove(node)


@settings(max_examples=120, deadline=None)
@given(
    bits=st.sampled_from([32, 33, 48]),
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1 << 16)), max_size=120),
)
def test_same_addresses_and_visits_as_a_plain_list(bits, steps):
    start = LOW_LIMIT_PFN - ROOM
    tree, plain = IovaTree(bits, start), PlainTree(1 << (bits - 12), start)
    held = []
    for pages, pick in steps:
        if pages > 16 and held:
            pfn = held.pop(pick % len(held))
            tree.free(pfn)
            plain.free(pfn)
        elif pages:
            expected = plain.allocate(pages)
            if expected is None:
                with pytest.raises(IovaSpaceFullError):
                    tree.allocate(pages)
            else:
                assert tree.allocate(pages) == expected
                held.append(expected)
        assert tree.counts.visits == plain.visits
        assert len(tree) == len(held)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(0, 1 << 16)), max_size=150
    )
)
def test_bitmap_gives_no_entry_twice_and_finds_room_wherever_there_is_any(steps):
    n = numbers()
    nodes = tce_bitmap.make_bitmap(n, 256)
    held, taken = {}, {0}
    for cpu, pages, pick in steps:
        if pick % 3 == 0 and held:
            pfn = sorted(held)[pick % len(held)]
            tce_bitmap.bitmap_free(n, nodes, pfn, held[pfn])
            taken -= set(range(pfn, pfn + held.pop(pfn)))
            continue
        pfn = tce_bitmap.bitmap_allocate(n, nodes, cpu, pages)
        free_runs = [
            first
            for first in range(257 - pages)
            if not taken & set(range(first, first + pages))
            and pool_of(n, first) == pool_of(n, first + pages - 1)
        ]
        assert (pfn == NO_RANGE) == (not free_runs)
        if pfn != NO_RANGE:
            assert pfn in free_runs
            held[pfn] = pages
            taken |= set(range(pfn, pfn + pages))
    assert set(np.flatnonzero(nodes[:, 0]).tolist()) == taken


def test_bitmap_gives_each_cpu_its_pool_and_large_ranges_theirs():
    n = numbers()
    nodes = tce_bitmap.make_bitmap(n, 4096)
    for cpu in range(8):
        assert pool_of(n, tce_bitmap.bitmap_allocate(n, nodes, cpu, 1)) == cpu % (POOLS - 1)
    assert pool_of(n, tce_bitmap.bitmap_allocate(n, nodes, 2, LARGE)) == 2
    large = tce_bitmap.bitmap_allocate(n, nodes, 2, LARGE + 1)
    assert pool_of(n, large) == POOLS - 1
    assert tce_bitmap.bitmap_allocate(n, nodes, 0, LARGE + 1) == large + LARGE + 1
    assert n[TREE_RETRIES] == 0


def test_bitmap_search_goes_on_in_the_next_block_and_wraps_round():
    n = numbers()
    nodes = tce_bitmap.make_bitmap(n, 4096)
    pfns = [tce_bitmap.bitmap_allocate(n, nodes, 1, 1) for _ in range(3)]
    assert pfns == [pool_start(n, 1) + BLOCK * number for number in range(3)]
    tce_bitmap.bitmap_free(n, nodes, pfns[0], 1)
    rest = [tce_bitmap.bitmap_allocate(n, nodes, 1, 1) for _ in range(768 // BLOCK - 3)]
    assert pfns[0] not in rest and rest[-1] == pool_start(n, 2) - BLOCK
    assert tce_bitmap.bitmap_allocate(n, nodes, 1, 1) == pfns[0]
