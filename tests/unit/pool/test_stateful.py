# SPDX-License-Identifier: MIT
"""Any legal order of take, receive, give, remote give and close, for every strategy.

What holds for all: no byte is lent twice, nothing is lost, counts are exact. What the device may
reach is what the strategy's guarantees say, and no more.
"""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pool.buffers import NO_IOVA, BufferBatch
from pool.direct_window import DirectWindow
from pool.interface import Context, Direction, PoolConfig
from pool.mapping_cache import MappingCache
from pool.registry import STRATEGIES
from tests.unit.pool.fakes import PlainDma, StrictDma, StrictPages


class PoolMachine(RuleBasedStateMachine):
    strategy = None
    options = MappingProxyType({})

    @initialize(
        ring=st.sampled_from([1, 8, 40, 200]),
        total=st.sampled_from([50, 1500]),
        buffer_bytes=st.sampled_from([1984, 960, 3000]),
        refuse=st.sampled_from([set(), {18, 40}]),
        max_order=st.sampled_from([1, 9]),
        patience=st.sampled_from([0, 3, 6]),
    )
    def make(self, ring, total, buffer_bytes, refuse, max_order, patience):
        self.patience = patience  # takes before a close: else most runs would end at once
        promise = self.strategy.guarantees
        self.pages = StrictPages(total, max_order)
        self.dma = StrictDma(self.pages, may_free_mapped=promise.mapped_when_free)
        config = PoolConfig(pool_size=ring, headroom=64, buffer_bytes=buffer_bytes)
        self.pool = self.build(config)
        if not promise.reaches_everything:
            self.dma.refuse = refuse
        self.posted = self.held = BufferBatch.empty()

    def build(self, config):
        return self.strategy(self.pages, self.dma, config, **self.options)

    def end_shared(self):
        """Ends what outlives the pool."""

    @precondition(lambda self: not self.pool.closing)
    @rule(n=st.integers(0, 300))
    def take(self, n):
        self.patience -= 1
        batch = self.pool.take(n)
        assert len(batch) <= n
        last = (batch.lengths - 1).astype(np.uint64)
        for iovas, places in (
            (batch.iovas, batch.memory),
            (batch.iovas + last, batch.memory + batch.lengths - 1),
        ):
            assert [self.dma.place(iova) for iova in iovas.tolist()] == places.tolist()
        self.posted = BufferBatch.concat([self.posted, batch])

    @precondition(lambda self: not self.pool.closing or not self.pool.guarantees.unmapped_by_close)
    @rule(data=st.data())
    def receive(self, data):
        batch, self.posted = self._pick(data, self.posted)
        got = self.pool.receive(batch, np.full(len(batch), 60))
        assert len(got) == len(batch)
        self.held = BufferBatch.concat([self.held, got])

    @rule(data=st.data(), context=st.sampled_from(Context))
    def give_received(self, data, context):
        batch, self.held = self._pick(data, self.held)
        self.pool.give(batch, context)

    @rule(data=st.data(), context=st.sampled_from(Context))
    def give_unused(self, data, context):
        batch, self.posted = self._pick(data, self.posted)
        self.pool.give(batch, context)

    @rule(data=st.data())
    def give_both(self, data):
        posted, self.posted = self._pick(data, self.posted)
        held, self.held = self._pick(data, self.held)
        self.pool.give(BufferBatch.concat([posted, held]), Context.TEARDOWN)

    @precondition(lambda self: self.patience <= 0)
    @rule()
    def close(self):
        assert self.pool.close() == self.pool.counters.inflight
        if self.pool.guarantees.unmapped_by_close:
            assert not self.dma.pte

    @staticmethod
    def _pick(data, batch):
        """A random part, and the rest."""
        if not len(batch):
            return batch, batch
        mask = data.draw(st.integers(1, 2**16 - 1)) >> (np.arange(len(batch)) % 16) & 1 > 0
        return batch[mask], batch[~mask]

    @invariant()
    def counts_are_exact(self):
        counters = self.pool.counters
        assert counters.outstanding == len(self.posted) + len(self.held)
        assert counters.inflight == len(self.pages.live)
        shared = not self.dma_is_mine()
        assert shared or (counters.maps, counters.unmaps) == (self.dma.maps, self.dma.unmaps)
        assert shared or counters.mapped_pages == self.dma.mapped_pages
        assert shared or counters.unmapped_pages == self.dma.unmapped_pages
        assert counters.syncs_for_device == self.dma.synced_for_device
        assert counters.syncs_for_cpu == self.dma.synced_for_cpu

    def dma_is_mine(self):
        return not self.pool.guarantees.mapped_after_close

    @invariant()
    def no_byte_is_lent_twice(self):
        out = BufferBatch.concat([self.posted, self.held])
        starts = np.sort(out.memory)
        ends = np.sort(out.memory + out.lengths)
        assert (starts[1:] >= ends[:-1]).all()
        assert self.pages.live.issuperset(out.pfns.tolist())  # nothing lent is free
        if not self.pool.guarantees.shares_mapping:
            assert len(set(out.pfns.tolist())) == len(out)

    @invariant()
    def the_device_reaches_what_was_promised_and_no_more(self):
        promise, reached = self.pool.guarantees, self.dma.reached()
        assert reached.issuperset(self.posted.pfns.tolist()) or promise.unmapped_by_close
        held, posted = set(self.held.pfns.tolist()), set(self.posted.pfns.tolist())
        if not promise.mapped_while_read:
            assert reached.isdisjoint(held)
        if not promise.mapped_when_free:
            assert reached <= self.pages.live
            gone = self.held.pfns[self.held.iovas == np.uint64(NO_IOVA)]
            assert reached.isdisjoint(gone.tolist())
        if not promise.mapped_in_store:
            assert reached <= held | posted
        if self.pool.closed and not promise.mapped_after_close:
            assert not reached
        if promise.reaches_everything and not self.pool.closed:
            assert reached == set(range(16, 16 + self.pages.span[1]))

    def teardown(self):
        if not hasattr(self, "pool"):
            return
        self.pool.give(BufferBatch.concat([self.posted, self.held]), Context.REMOTE)
        self.posted = self.held = BufferBatch.empty()
        assert self.pool.close() == 0
        assert self.pool.closed
        assert not self.pages.live
        if not self.pool.guarantees.mapped_after_close:
            assert not self.dma.live
        self.counts_are_exact()
        self.end_shared()
        assert not self.dma.live


class SharedWindow(PoolMachine):
    strategy = STRATEGIES["direct_window"]

    def build(self, config):
        self.window = DirectWindow(self.pages, self.dma, Direction.FROM_DEVICE)
        return self.strategy(self.pages, self.dma, config, window=self.window)

    def end_shared(self):
        assert self.dma.live  # the exposure outlives the pool
        self.window.close()


class SharedCache(PoolMachine):
    strategy = STRATEGIES["mapping_cache"]

    def build(self, config):
        self.cache = MappingCache(self.pages, self.dma, config.pool_size, config.direction)
        return self.strategy(self.pages, self.dma, config, cache=self.cache)

    def end_shared(self):
        self.cache.flush()


class PlainScatterlist(PoolMachine):
    strategy = STRATEGIES["scatterlist_cache"]
    set_pages = 3

    def build(self, config):
        return self.strategy(self.pages, PlainDma(self.dma), config, set_pages=self.set_pages)


class PlainBulk(PoolMachine):
    strategy = STRATEGIES["bulk_map"]

    def build(self, config):
        return self.strategy(self.pages, PlainDma(self.dma), config)


class OneReference(PoolMachine):
    strategy = STRATEGIES["half_page_flip"]

    def build(self, config):
        return self.strategy(self.pages, self.dma, replace(config, references=1))


class PlainLargeSets(PlainScatterlist):
    set_pages = 150


def with_options(name, **options):
    return type("Machine", (PoolMachine,), {"strategy": STRATEGIES[name], "options": options})


MACHINES = {name: with_options(name) for name in STRATEGIES} | {
    "page_pool tracking": with_options("page_pool", dma_tracking=True, return_bulk=16),
    "mempool small pages": with_options("mempool", huge_order=1),
    "order_fallback order-0": with_options("order_fallback", prefer_order=0),
    "zero_copy_domain other id": with_options("zero_copy_domain", cross_domain=99),
    "bulk_map plain": PlainBulk,
    "half_page_flip of 2016": OneReference,
    "direct_window shared": SharedWindow,
    "mapping_cache shared": SharedCache,
    "scatterlist_cache plain": PlainScatterlist,
    "scatterlist_cache plain, sets of more than two batches": PlainLargeSets,
}


@pytest.mark.parametrize("name", MACHINES)
def test_no_page_is_lent_twice_or_lost_in_any_order_of_calls(name):
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        MACHINES[name],
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            suppress_health_check=slow,
            deadline=None,
            print_blob=True,
        ),
    )
