# SPDX-License-Identifier: MIT
"""Results of twins that did not run: what the tests of tables, figures and sweeps begin with."""

from testbed.sweep.point import Point
from testbed.twin.host import CATEGORIES
from testbed.twin.result import TwinResult
from testbed.twin.scenario import TwinScenario


def scenario(strategy="page_pool", preset="vtd-strict", **more):
    return TwinScenario(strategy=strategy, preset=preset, packets=1000, **more)


def result(strategy="page_pool", preset="vtd-strict", cycles=100.0, exposure=0.0, **more):
    """``cycles`` for each packet, a tenth of them the driver's; a budget of 201.6."""
    by_category = dict.fromkeys(CATEGORIES, 0.0)
    by_category["driver"], by_category["invalidation"] = 0.1 * cycles, 0.9 * cycles
    values = {
        "strategy": strategy,
        "preset": preset,
        "packets": 1000,
        "lost": 0,
        "seconds": 1e-4,
        "maps_per_packet": 0.25,
        "unmaps_per_packet": 0.25,
        "invalidations_per_packet": 0.25,
        "iotlb_misses_per_packet": 1.0,
        "walk_reads_per_packet": 1.0,
        "atomics_per_packet": 2.0,
        "allocator_calls_per_packet": 0.125,
        "copies_per_packet": 0.0,
        "cycles": by_category,
        "cycles_per_packet": cycles,
        "budget_cycles": 201.6,
        "cpu_pps": 3e9 / cycles,
        "device_pps": 2e7,
        "wire_pps": 14880952.380952381,
        "pps": min(3e9 / cycles, 14880952.380952381),
        "exposure": {
            "held by the stack": exposure,
            "free for anybody": 0.0,
            "all of memory": 0.0,
        },
        "exposure_per_packet": exposure,
        "longest_stale_us": 0.1,
        "stale_peak": 1,
        "pinned_bytes": 1 << 21,
        "pinned_per_claimed": 0.0,
        "live_after": 0,
        "inflight_after": 0,
        "violations": {},
        "first_violations": [],
        "counters": {"maps": 250, "unmaps": 250},
    }
    return TwinResult(**(values | more))


def point(strategy="page_pool", preset="vtd-strict", cycles=100.0, exposure=0.0, **more):
    found = result(strategy, preset, cycles, exposure, **more)
    return Point(scenario(strategy, preset), found)
