# SPDX-License-Identifier: MIT
"""Any legal order of take, receive, give, remote give and close, for every strategy."""

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
from pool.interface import Context, PoolConfig
from pool.registry import STRATEGIES
from tests.unit.pool.fakes import StrictDma, StrictPages


class PoolMachine(RuleBasedStateMachine):
    strategy = None

    @initialize(ring=st.sampled_from([1, 8, 40, 200]), total=st.sampled_from([50, 3000]))
    def make(self, ring, total):
        self.pages = StrictPages(total)
        self.dma = StrictDma(self.pages)
        config = PoolConfig(pool_size=ring, headroom=64)
        self.pool = self.strategy(self.pages, self.dma, config)
        self.out = []  # batches as the driver or the stack holds them

    @precondition(lambda self: not self.pool._closing)
    @rule(n=st.integers(0, 300))
    def take(self, n):
        batch = self.pool.take(n)
        assert len(batch) <= n
        assert len(set(batch.pfns.tolist())) == len(batch)
        held = {pfn for other in self.out for pfn in other.pfns.tolist()}
        assert held.isdisjoint(batch.pfns.tolist())
        assert [self.dma.live[iova - 64] for iova in batch.iovas.tolist()] == batch.pfns.tolist()
        self.out.append(batch)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def receive(self, data):
        batch = self._pick(data)
        posted = batch.iovas != np.uint64(NO_IOVA)
        kept = self.pool.receive(batch[posted], np.full(int(posted.sum()), 60))
        self.out += [kept, batch[~posted]]

    @precondition(lambda self: self.out)
    @rule(data=st.data(), context=st.sampled_from(Context))
    def give(self, data, context):
        self.pool.give(self._pick(data), context)

    @rule()
    def close(self):
        assert self.pool.close() == self.pool.counters.inflight

    def _pick(self, data):
        """Takes a random part of what is out."""
        batch = BufferBatch.concat(self.out)
        if not len(batch):
            self.out = []
            return batch
        mask = data.draw(st.integers(1, 2**16 - 1)) >> (np.arange(len(batch)) % 16) & 1 > 0
        self.out = [batch[~mask]]
        return batch[mask]

    @invariant()
    def counts_are_exact(self):
        counters = self.pool.counters
        assert counters.outstanding == sum(map(len, self.out))
        assert counters.inflight == len(self.pages.live)
        assert counters.inflight >= counters.outstanding
        assert (counters.maps, counters.unmaps) == (self.dma.maps, self.dma.unmaps)
        assert counters.maps - counters.unmaps == len(self.dma.live)
        assert counters.syncs_for_device == self.dma.synced_for_device
        assert counters.syncs_for_cpu == self.dma.synced_for_cpu

    def teardown(self):
        if not hasattr(self, "pool"):
            return
        self.pool.give(BufferBatch.concat(self.out), Context.REMOTE)
        self.out = []
        assert self.pool.close() == 0
        assert self.pool.closed
        assert not self.dma.live
        assert not self.pages.live
        self.counts_are_exact()


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_page_is_lent_twice_or_lost_in_any_order_of_calls(name):
    machine = type("Machine", (PoolMachine,), {"strategy": STRATEGIES[name]})
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            suppress_health_check=slow,
            deadline=None,
            print_blob=True,
        ),
    )
