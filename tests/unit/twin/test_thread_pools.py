# SPDX-License-Identifier: MIT
"""Thread rows T1, T2, T3, T6, T8, T21: pools of mapped pages, as the twin sees them."""

import pytest

from testbed.twin.thread.experiment import steady
from testbed.twin.thread.page import row
from testbed.twin.thread.pools import STRICT


def test_t1_page_pool_that_maps_or_counts_an_atomic_in_steady_state():
    """T1: no map, no unmap, no atomic on one CPU; the ring costs one atomic, and still no map."""
    facts = row(1).facts
    assert (facts["maps"], facts["unmaps"], facts["atomics"]) == (0, 0, 0)
    assert facts["recycled"] == pytest.approx(1.0, abs=0.05)
    assert facts["remote_maps"] == 0
    assert facts["remote_atomics"] == pytest.approx(1.0, abs=0.05)


def test_t1_page_pool_that_costs_more_than_its_bench_and_a_tight_driver():
    """T1: about 75 cycles a packet: 19 of the pool, 12 of syncs, 43 of driver and drop."""
    pool = steady("page_pool", STRICT)
    assert pool.total == pytest.approx(75, abs=3)
    assert pool.cycles["pool"] == pytest.approx(19)
    assert sum(pool.cycles[key] for key in ("IOVA", "page table", "invalidation")) == pytest.approx(
        0
    )
    assert row(1).facts["factor"] > 50


def test_t1_strict_map_per_packet_that_leaves_anything_exposed():
    """T1: what the pool pays with is exposure; the map per packet has none."""
    facts = row(1).facts
    assert facts["naive_maps"] == 1
    assert facts["naive_exposed"] == 0 < facts["exposed"]


def test_t2_array_cache_with_an_atomic_or_recycling_across_cpus():
    """T2: nothing on one CPU; freed elsewhere, nothing comes back."""
    facts = row(2).facts
    assert (facts["atomics"], facts["maps"]) == (0, 0)
    assert facts["wasted"] == 4096 - 64
    assert facts["remote_maps"] == pytest.approx(1.0, abs=0.02)
    assert facts["remote"] > 50 * facts["local"]


def test_t2_cpu_that_frees_waits_for_itself():
    """A CPU's own invalidations are one after the other; only others' make it wait."""
    run = steady("array_cache", "vtd-strict-fast-iova", consumer__kind="forward-remote")
    assert run.cycles["waiting"] < 0.05 * run.total


def test_t3_flip_that_is_not_two_atomics_or_never_fails():
    """T3: two atomics; flips fail once a packet is held for a lap of the ring, and only then."""
    facts = row(3).facts
    assert facts["atomics"] == pytest.approx(2)
    assert facts["failed_0.0"] == facts["failed_0.5"] == 0
    shares = [facts[f"failed_{hold}"] for hold in (0.5, 0.9, 1.0, 1.1)]
    assert shares == sorted(shares) and shares[-1] > 0.4
    assert facts["failed_2.0"] <= 0.55  # the first flip of a fresh page cannot fail


def test_t6_dma_pool_without_its_lock():
    """T6: no map per packet, but a lock to take and one to give, on whichever CPU."""
    facts = row(6).facts
    assert facts["maps"] == 0
    assert facts["atomics"] == pytest.approx(2)
    assert facts["remote_atomics"] == pytest.approx(2, abs=0.05)
    assert facts["ours"] > facts["pool"]
    assert facts["pinned"] < facts["pool_pinned"]


def test_t8_constructed_pages_that_are_free_of_the_allocators_cost():
    """T8: the mapping is kept, the allocator's fast path is paid; across CPUs it maps again."""
    facts = row(8).facts
    assert facts["maps"] == pytest.approx(0)
    assert facts["alloc"] == pytest.approx(277)
    assert facts["pool"] < facts["pcp"] < facts["naive"] / 10
    assert facts["remote_maps"] > 0.9
    assert facts["remote"] > 10 * facts["pool_remote"]


def test_t21_mempool_with_an_atomic_or_a_map():
    """T21: zero atomics on one CPU, one for a bulk across CPUs; huge pages end IOTLB misses."""
    facts = row(21).facts
    assert (facts["atomics"], facts["maps"]) == (0, 0)
    assert 0 < facts["remote_atomics"] < 0.05
    assert facts["misses"] < 0.01 < 0.9 < facts["pool_misses"]
    assert facts["pool_atomics"] == 0
