# SPDX-License-Identifier: MIT
"""Strict, lazy and single-queue invalidation: nothing forgotten, nothing early, V6."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emulator.iommu.model.contention import SerialServer
from emulator.iommu.model.errors import ModelError, TimeBackwardsError
from emulator.iommu.model.invalidation import (
    QUEUE_ENTRIES,
    QUEUE_TIMEOUT_NS,
    SINGLE_ENTRIES,
    SINGLE_TIMEOUT_NS,
    LazyInvalidation,
    StrictInvalidation,
)

SYNC_NS = 700
MS = 1_000_000
PAGE = 4096


def pfns(count, first=0):
    return np.arange(first, first + count, dtype=np.int64)


class LazyMachine(RuleBasedStateMachine):
    """Unmaps on three CPUs and passing time, against a record of each entry."""

    entries, timeout_ns, single = 16, 10 * MS, False

    def __init__(self):
        super().__init__()
        self.lazy = LazyInvalidation(SYNC_NS, 3, self.entries, self.timeout_ns, self.single)
        self.now_ns, self.next_pfn, self.clocks = 0, 0, [0, 0, 0]
        self.queued = {}

    def take_out(self, freed, cpu_ns):
        for pfn in freed.tolist():
            since_ns = self.queued.pop(pfn)
            assert since_ns < cpu_ns

    @rule(cpu=st.integers(0, 2), count=st.integers(0, 60))
    def unmap(self, cpu, count):
        new = pfns(count, self.next_pfn)
        self.next_pfn += count
        self.queued.update(dict.fromkeys(new.tolist(), self.now_ns))
        result = self.lazy.unmap(self.now_ns, cpu, new)
        self.take_out(result.freed, max(result.done_ns, self.now_ns + 1))
        assert result.done_ns >= self.now_ns

    @rule(ns=st.sampled_from([0, 1, SYNC_NS, MS, 9 * MS, 30 * MS]))
    def wait(self, ns):
        self.now_ns += ns
        self.take_out(self.lazy.advance(self.now_ns), self.now_ns + 1)

    @invariant()
    def no_entry_is_forgotten_or_freed_twice(self):
        assert self.lazy.queued == len(self.queued)

    @invariant()
    def stale_entries_are_queued_ones_and_none_is_older_than_the_bound(self):
        stale = self.lazy.stale().tolist()
        assert set(stale) <= self.queued.keys() and len(set(stale)) == len(stale)
        assert all(self.now_ns - self.queued[pfn] < self.timeout_ns for pfn in stale)
        assert len(stale) <= (1 if self.single else 3) * (self.entries - 1)

    @invariant()
    def each_entry_is_stale_or_was_exposed(self):
        assert self.lazy.exposure.mappings + len(self.lazy.stale()) == self.next_pfn
        # One queue of flushes: a full CPU may wait for those of the other two.
        waits = 20 * SYNC_NS
        assert self.lazy.exposure.longest_ns <= self.timeout_ns + waits

    def teardown(self):
        self.take_out(self.lazy.close(self.now_ns + MS), self.now_ns + 2 * MS)
        assert not self.queued and not self.lazy.queued and not len(self.lazy.stale())


class SingleMachine(LazyMachine):
    single = True


for machine in (LazyMachine, SingleMachine):
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestLazy = LazyMachine.TestCase
TestSingle = SingleMachine.TestCase


def test_v6_unmapped_page_is_reachable_for_at_most_10_ms_under_lazy_and_not_at_all_under_strict():
    lazy, strict = LazyInvalidation(SYNC_NS), StrictInvalidation(SYNC_NS)
    for queue in (lazy, strict):
        queue.unmap(0, 0, pfns(3))
    lazy.advance(QUEUE_TIMEOUT_NS - 1)
    assert lazy.stale().tolist() == [0, 1, 2] and not len(strict.stale())
    assert lazy.advance(QUEUE_TIMEOUT_NS).tolist() == [0, 1, 2]
    assert not len(lazy.stale())
    assert lazy.exposure.longest_ns == QUEUE_TIMEOUT_NS + SYNC_NS
    assert lazy.exposure.byte_us == 3 * PAGE * (QUEUE_TIMEOUT_NS + SYNC_NS) / 1000
    assert strict.exposure.byte_ns == 0


def test_timer_that_came_due_long_ago_ends_the_window_at_its_own_time():
    lazy = LazyInvalidation(SYNC_NS)
    lazy.unmap(0, 0, pfns(1))
    lazy.advance(5 * QUEUE_TIMEOUT_NS)
    assert lazy.exposure.longest_ns == QUEUE_TIMEOUT_NS + SYNC_NS


def test_timer_runs_from_the_first_entry_not_the_last():
    lazy = LazyInvalidation(SYNC_NS, cpus=2)
    lazy.unmap(0, 0, pfns(1))
    lazy.unmap(9 * MS, 1, pfns(1, 10))
    assert sorted(lazy.advance(10 * MS).tolist()) == [0, 10]
    lazy.unmap(11 * MS, 1, pfns(1, 20))
    assert not len(lazy.advance(21 * MS - 1)) and lazy.advance(21 * MS).tolist() == [20]


def test_full_queue_flushes_once_and_covers_the_other_cpus_without_freeing_them():
    lazy = LazyInvalidation(SYNC_NS, cpus=2)
    lazy.unmap(0, 1, pfns(1, 5000))
    room = QUEUE_ENTRIES - 1
    assert lazy.unmap(1, 0, pfns(room)).done_ns == 1 and lazy.invalidations == 0
    result = lazy.unmap(2, 0, pfns(1, room))
    assert result.done_ns == 2 + SYNC_NS and lazy.full_flushes == 1
    assert result.freed.tolist() == list(range(room))
    assert lazy.stale().tolist() == [room] and lazy.queued == 2
    assert lazy.unmap(3 + SYNC_NS, 1, pfns(1, 5001)).freed.tolist() == [5000]


def test_entry_queued_while_a_flush_is_under_way_waits_for_the_next():
    lazy = LazyInvalidation(SYNC_NS, cpus=2)
    lazy.unmap(0, 0, pfns(QUEUE_ENTRIES))
    lazy.unmap(SYNC_NS // 2, 1, pfns(1, 9000))
    assert 9000 in lazy.stale()
    assert 9000 not in lazy.unmap(2 * SYNC_NS, 1, pfns(1, 9001)).freed
    assert 9000 in lazy.advance(QUEUE_TIMEOUT_NS)


def test_lazy_needs_one_invalidation_for_255_unmaps_and_strict_one_for_each():
    lazy, strict = LazyInvalidation(SYNC_NS), StrictInvalidation(SYNC_NS)
    batched = StrictInvalidation(SYNC_NS, batch=64)
    for poll in range(1000):
        for queue in (lazy, strict, batched):
            queue.unmap(poll * 50_000, 0, pfns(64, 64 * poll))
    assert strict.invalidations == 64_000 and batched.invalidations == 1000
    assert 64_000 / 256 <= lazy.invalidations <= 64_000 / 255 + 5
    assert lazy.exposure.longest_ns < QUEUE_TIMEOUT_NS


def test_single_queue_keeps_far_more_for_far_longer():
    single = LazyInvalidation(SYNC_NS, 8, SINGLE_ENTRIES, SINGLE_TIMEOUT_NS, single=True)
    for cpu in range(8):
        single.unmap(cpu, cpu, pfns(4000, 4000 * cpu))
    single.advance(SINGLE_TIMEOUT_NS - 1)
    assert len(single.stale()) == 32_000 and single.invalidations == 0
    single.advance(SINGLE_TIMEOUT_NS)
    assert single.invalidations == 1


def test_cpus_that_invalidate_at_once_wait_for_each_other():
    shared = SerialServer()
    domains = [StrictInvalidation(SYNC_NS, shared) for _ in range(4)]
    done = [domain.unmap(0, cpu, pfns(2)).done_ns for cpu, domain in enumerate(domains)]
    assert done == [2 * SYNC_NS * n for n in (1, 2, 3, 4)]
    assert shared.waited_ns == 2 * SYNC_NS * (1 + 2 + 3)


def test_wrong_order_and_impossible_queues_are_refused():
    lazy = LazyInvalidation(SYNC_NS)
    lazy.advance(5)
    with pytest.raises(TimeBackwardsError):
        lazy.unmap(4, 0, pfns(1))
    with pytest.raises(ModelError):
        LazyInvalidation(SYNC_NS, entries=1)
