# SPDX-License-Identifier: MIT
"""The IOVA allocator: never one address twice, and where each operation ends."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emulator.iommu.model.errors import (
    IovaNotAllocatedError,
    IovaSpaceFullError,
    ModelError,
)
from emulator.iommu.model.iova import MAGAZINE_SIZE, IovaAllocator, IovaCosts, IovaCounts
from emulator.iommu.model.iova_tree import LOW_LIMIT_PFN, IovaTree

CPUS = 3


class AllocatorMachine(RuleBasedStateMachine):
    """Any order of batches on any CPU, in a space small enough to run full."""

    magazines = True
    depot_limit = 1

    def __init__(self):
        super().__init__()
        self.allocator = IovaAllocator(
            CPUS, self.magazines, 32, LOW_LIMIT_PFN - 4096, self.depot_limit
        )
        self.held = {}

    @rule(cpu=st.integers(0, CPUS - 1), pages=st.integers(1, 40), count=st.integers(0, 300))
    def allocate(self, cpu, pages, count):
        before = self.allocator.held
        try:
            pfns = self.allocator.allocate(cpu, pages, count).tolist()
        except IovaSpaceFullError:
            assert self.allocator.held == before
            return
        assert len(pfns) == count
        assert not self.held.keys() & set(pfns)
        self.held.update(dict.fromkeys(pfns, pages))

    @rule(cpu=st.integers(0, CPUS - 1), share=st.floats(0, 1), seed=st.integers(0, 99))
    def free(self, cpu, share, seed):
        shuffled = np.random.default_rng(seed).permutation(sorted(self.held))
        some = shuffled[: int(share * len(shuffled))].astype(np.int64)
        self.allocator.free(cpu, some)
        for pfn in some.tolist():
            del self.held[pfn]

    @rule()
    def shrink(self):
        self.allocator.shrink_depot()

    @rule()
    def flush(self):
        self.allocator.flush()
        assert self.allocator.cached == 0

    @invariant()
    def no_two_ranges_overlap(self):
        end = LOW_LIMIT_PFN - 4096
        for pfn, pages in sorted(self.held.items()):
            assert pfn >= end and pfn % (1 << (pages - 1).bit_length()) == 0
            end = pfn + pages
        assert end <= LOW_LIMIT_PFN

    @invariant()
    def tree_holds_what_is_held_and_what_is_cached(self):
        ranges = dict(self.allocator.tree.ranges())
        assert self.held.keys() <= ranges.keys()
        assert len(ranges) == self.allocator.held + self.allocator.cached
        starts = sorted(ranges)
        assert all(a + ranges[a] <= b for a, b in pairwise(starts))


class TreeOnlyMachine(AllocatorMachine):
    magazines = False


class DeepDepotMachine(AllocatorMachine):
    depot_limit = None


for machine in (AllocatorMachine, TreeOnlyMachine, DeepDepotMachine):
    machine.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestMagazines = AllocatorMachine.TestCase
TestTreeOnly = TreeOnlyMachine.TestCase
TestDeepDepot = DeepDepotMachine.TestCase


def test_ranges_come_from_the_top_of_the_low_window_then_from_above():
    tree = IovaTree(bits=48, start_pfn=LOW_LIMIT_PFN - 4)
    assert [tree.allocate(1) for _ in range(4)] == [LOW_LIMIT_PFN - n for n in (1, 2, 3, 4)]
    assert tree.allocate(1) == (1 << 36) - 1
    tree.free(LOW_LIMIT_PFN - 2)
    assert tree.allocate(1) == LOW_LIMIT_PFN - 2


def test_full_space_is_refused():
    tree = IovaTree(bits=32, start_pfn=LOW_LIMIT_PFN - 8)
    for _ in range(8):
        tree.allocate(1)
    with pytest.raises(IovaSpaceFullError, match="8 ranges"):
        tree.allocate(1)


def test_hole_that_a_larger_range_skipped_is_found_by_a_second_pass_from_the_top():
    tree = IovaTree(bits=32, start_pfn=LOW_LIMIT_PFN - 8)
    pfns = [tree.allocate(1) for _ in range(8)]
    for position in (6, 7, 1):
        tree.free(pfns[position])
    assert tree.allocate(2) == pfns[7] and tree.counts.retries == 0
    assert tree.allocate(1) == pfns[1] and tree.counts.retries == 1


def test_magazines_are_emptied_before_a_full_space_is_refused():
    allocator = IovaAllocator(cpus=2, bits=32, start_pfn=LOW_LIMIT_PFN - 128)
    allocator.free(0, allocator.allocate(0, 1, 128))
    assert allocator.cached == 128
    assert len(allocator.allocate(1, 64)) == 1 and allocator.cached == 0


def test_fresh_magazines_ask_the_tree_once_and_recycle_ever_after():
    allocator = IovaAllocator()
    for _ in range(50):
        allocator.free(0, allocator.allocate(0, 1, 64))
    assert allocator.counts == IovaCounts(49 * 64, 50 * 64, 0, 0, 64, 0, 64)


def test_magazine_gives_the_last_freed_first():
    allocator = IovaAllocator()
    pfns = allocator.allocate(0, 1, 5)
    allocator.free(0, pfns)
    assert allocator.allocate(0, 1, 5).tolist() == pfns.tolist()[::-1]


def test_allocation_on_one_cpu_and_free_on_another_go_through_the_depot():
    allocator = IovaAllocator(cpus=2)
    for _ in range(40):
        allocator.free(1, allocator.allocate(0, 1, MAGAZINE_SIZE))
    counts = allocator.counts
    # CPU 1 keeps two magazines; all others cross by the depot, whole.
    assert counts.tree_allocs == 3 * MAGAZINE_SIZE
    assert counts.depot_gets == 37 and counts.depot_puts == 38
    assert allocator.cached == 3 * MAGAZINE_SIZE


def test_magazine_past_a_full_depot_goes_back_to_the_tree():
    allocator = IovaAllocator(depot_limit=1)
    allocator.free(0, allocator.allocate(0, 1, 5 * MAGAZINE_SIZE))
    assert allocator.counts.depot_puts == 1
    assert allocator.counts.tree_frees == 2 * MAGAZINE_SIZE
    unlimited = IovaAllocator()
    unlimited.free(0, unlimited.allocate(0, 1, 5 * MAGAZINE_SIZE))
    assert unlimited.counts.tree_frees == 0
    assert unlimited.shrink_depot() == MAGAZINE_SIZE


def test_ranges_above_32_pages_bypass_the_magazines():
    allocator = IovaAllocator()
    allocator.free(0, allocator.allocate(0, 33, 3))
    allocator.free(0, allocator.allocate(0, 32, 3))
    assert allocator.counts.tree_frees == 3 and allocator.counts.magazine_frees == 3


def visits_per_allocation(ring, magazines):
    """A ring of pages whose buffers come back out of order, 64 for each poll."""
    allocator = IovaAllocator(magazines=magazines)
    random = np.random.default_rng(2)
    held = allocator.allocate(0, 1, ring)
    before = allocator.counts.tree_visits
    for _ in range(100):
        where = random.permutation(ring)[:64]
        allocator.free(0, held[where])
        held[where] = allocator.allocate(0, 1, 64)
    return (allocator.counts.tree_visits - before) / 6400


def test_search_grows_with_what_is_mapped_before_2016_and_not_after():
    small, large = (visits_per_allocation(ring, magazines=False) for ring in (256, 8192))
    assert large > 10 * small > 10
    assert visits_per_allocation(8192, magazines=True) == 0


def test_double_free_and_free_of_a_stranger_change_nothing():
    allocator = IovaAllocator()
    pfns = allocator.allocate(0, 1, 4)
    for wrong in ([pfns[0], pfns[0]], [pfns[1], 7]):
        with pytest.raises(IovaNotAllocatedError):
            allocator.free(0, np.array(wrong, np.int64))
    assert allocator.held == 4
    allocator.free(0, pfns[:1])
    with pytest.raises(IovaNotAllocatedError, match=f"{int(pfns[0]):#x}"):
        allocator.free(0, pfns[:1])
    with pytest.raises(IovaNotAllocatedError):
        IovaTree().free(5)


def test_price_is_the_sum_of_the_parts():
    counts = IovaCounts(1, 2, 3, 4, 5, 6, 7)
    costs = IovaCosts(10, 100, 1000, 10_000, 100_000, 1_000_000)
    assert costs.price_ns(counts) == 10 + 200 + 7000 + 50_000 + 600_000 + 7_000_000


@pytest.mark.parametrize(
    "make", [lambda: IovaTree(31), lambda: IovaTree(48, 0), lambda: IovaAllocator(0)]
)
def test_impossible_spaces_are_refused(make):
    with pytest.raises(ModelError):
        make()
    with pytest.raises(ModelError, match="0 pages"):
        IovaAllocator().allocate(0, 0)
