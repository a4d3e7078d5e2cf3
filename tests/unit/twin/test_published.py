# SPDX-License-Identifier: MIT
"""V4, V6, V7 and V8 of docs/costs.md through the twin; the others are in tests/unit/iommu_model."""

import numpy as np
import pytest

from driver.host.costs import host_cost_names
from pool import steps
from testbed.twin import host as h
from testbed.twin.interpreted import INTERPRETED, build_interpreted
from testbed.twin.poll import BEGIN, settle_pool
from testbed.twin.thread.experiment import FREE, HELD, cycles_of, scenario, steady

PAGES, ROUNDS = 64, 20
PUBLISHED = [name for name in host_cost_names() if not name.startswith("counted-")]


def page_pool_cycles(host_costs, context, ring):
    """Cycles to take a page and give it back, as bench_page_pool_simple counts them."""
    what = scenario(
        "page_pool", "passthrough", host=host_costs, driver__pool_size=ring, driver__sync=False
    )
    world = build_interpreted(what)
    pool, host, queue = world.records(0)
    INTERPRETED.drive(pool, host, queue, BEGIN, 0, 0.0)
    mem, iova, received = (np.ones(PAGES, np.int64) for _ in range(3))
    for turn in range(ROUNDS + 1):
        if turn == 1:  # the first fills the cache or the ring
            before = total(world)
        assert steps.take(pool, host, PAGES, mem, iova) == PAGES
        steps.give(pool, host, PAGES, mem, received, context)
        settle_pool(pool, host, queue)
    return cycles_of(host_costs, total(world) - before) / (ROUNDS * PAGES)


def total(world):
    return float(world.host.spent[[h.ALLOC, h.STORE, h.ATOMIC]].sum())


@pytest.mark.parametrize("host_costs", PUBLISHED)
def test_v4_page_pool_whose_paths_are_not_as_far_apart_as_published(host_costs):
    """V4: fast to ring 1:1.9 to 4.6, fast to slow 1:6 to 15."""
    fast = page_pool_cycles(host_costs, steps.NAPI, 1024)
    ring = page_pool_cycles(host_costs, steps.REMOTE, 1024)
    slow = page_pool_cycles(host_costs, steps.REMOTE, 1)
    assert fast == pytest.approx(19)
    assert 1.9 <= ring / fast <= 4.6
    assert 6 <= slow / fast <= 15


def test_v6_lazy_window_beyond_10_ms_or_strict_one_at_all():
    """V6: at 1 Mb/s the queue of 255 never fills: the timer of 10 ms ends the window."""
    slow = {"traffic__rate_gbps": 0.001}
    lazy = steady("map_per_packet", "vtd-lazy", 60, **slow)
    assert 5_000 < lazy.end.longest_stale_us <= 10_000 + 2 * 672
    assert lazy.exposure[FREE] > 0
    strict = steady("map_per_packet", "vtd-strict", 60, **slow)
    assert strict.exposed == 0
    assert strict.end.longest_stale_us < 2  # the unmap itself


def test_v6_full_lazy_queue_that_waits_for_the_timer():
    """V6: at full speed 255 unmaps fill the queue long before 10 ms."""
    lazy = steady("map_per_packet", "vtd-lazy")
    assert 0 < lazy.end.longest_stale_us < 1000
    assert lazy.invalidations == pytest.approx(1 / 255, rel=0.1)


@pytest.mark.parametrize("preset", ["vtd-strict", "vtd-lazy", "smmu-like"])
def test_v7_page_pool_that_maps_in_steady_state(preset):
    """V7: no map, unmap or invalidation; misses remain for the ring is beyond the IOTLB's reach."""
    run = steady("page_pool", preset)
    assert (run.maps, run.unmaps, run.invalidations) == (0, 0, 0)
    assert run.misses == pytest.approx(1.0, abs=0.02)
    assert run.exposure[HELD] > 0


def test_v7_small_ring_that_misses():
    """V7: a ring within the IOTLB's reach of 128 pages misses no more."""
    assert steady("page_pool", "vtd-strict", driver__ring=64).misses == 0


def test_v8_huge_pages_that_miss_like_small_ones():
    """V8: the same ring out of 2 MiB pages misses not one time in ten."""
    small, huge = steady("page_pool", "vtd-strict"), steady("mempool", "vtd-strict")
    assert huge.misses < 0.1 * small.misses
