# SPDX-License-Identifier: MIT
"""The SimPy model is of the same scenario as the twin, or their speeds could not be compared."""

from __future__ import annotations

import pytest

from testbed.twin.interpreted import build_interpreted, run_interpreted
from testbed.twin.thread.experiment import GHZ, scenario
from tests.bench.simpy_twin import PRESET, SimpyTwin

PACKETS = 3200


def test_simpy_model_that_counts_or_spends_otherwise_than_the_twin() -> None:
    plain = SimpyTwin(PACKETS)
    plain.run()
    found = run_interpreted(scenario("page_pool", PRESET, packets=PACKETS))
    assert plain.ledger.violations == []
    assert plain.received == found.packets
    assert plain.maps == found.counters["maps"]
    assert plain.misses == pytest.approx(found.iotlb_misses_per_packet * PACKETS, abs=512)
    longer = SimpyTwin(2 * PACKETS)
    longer.run()
    cycles = (longer.busy_ns - plain.busy_ns) * GHZ / PACKETS
    assert cycles == pytest.approx(74, abs=3)
    assert plain.ledger.exposed > 0


def test_simpy_ledger_that_sees_nothing() -> None:
    plain = SimpyTwin(10)
    plain.ledger.write(1, 2)
    plain.ledger.post(3)
    plain.ledger.post(3)
    assert [found[:3] for found in plain.ledger.violations] == ["O-1", "O-5"]


def test_twin_that_needs_more_memory_for_more_packets() -> None:
    few, many = (
        build_interpreted(scenario("page_pool", PRESET, packets=packets))
        for packets in (1_000, 10_000_000_000)
    )
    for one, other in zip(few.records(0), many.records(0), strict=True):
        assert bytes_of(one) == bytes_of(other) > 0


def bytes_of(state: object) -> int:
    if isinstance(state, tuple):
        return sum(bytes_of(part) for part in state)
    return getattr(state, "nbytes", 0)
