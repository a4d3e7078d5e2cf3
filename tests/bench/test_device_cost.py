# SPDX-License-Identifier: MIT
"""What the device pays to receive a packet: figures, and the counts that have to be exact."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.bench.mapping import KEPT, MapRig
from tests.bench.receive import ReceiveRig


@pytest.mark.parametrize("length", [60, 1514])
@pytest.mark.parametrize("burst", [64, 256])
@pytest.mark.parametrize("paged", [False, True], ids=["extent", "pages"])
def test_cost_of_a_burst(benchmark: Any, paged: bool, burst: int, length: int) -> None:
    rig = ReceiveRig(paged, length, burst)
    bursts = rig.rounds(1 << 30)
    benchmark.pedantic(rig.work, setup=lambda: next(bursts), rounds=100, warmup_rounds=10)
    rig.check()
    assert rig.received >= burst


def calls_of_bursts(paged: bool, burst: int, bursts: int) -> int:
    """Function calls, of Python and of C, that the device makes for some bursts."""
    rig = ReceiveRig(paged, 60, burst)
    rig.run(16 * burst)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    for _ in rig.rounds(bursts):
        sys.setprofile(count)
        try:
            rig.work()
        finally:
            sys.setprofile(None)
    rig.check()
    return calls


def test_burst_takes_no_more_calls_behind_pages_than_behind_one_extent() -> None:
    assert calls_of_bursts(True, 64, 32) <= calls_of_bursts(False, 64, 32)


def test_calls_do_not_grow_with_the_packets_of_a_burst() -> None:
    """Whatever is done packet by packet outside a compiled loop would show here."""
    assert calls_of_bursts(True, 256, 16) < 1.25 * calls_of_bursts(True, 64, 16)


def test_cost_of_map_and_unmap_from_message_to_reply(benchmark: Any) -> None:
    rig = MapRig()
    benchmark.pedantic(rig.run, args=(100,), rounds=10)
    totals = rig.endpoint.ledger.totals
    assert totals.maps - KEPT == totals.unmaps > 0
    rig.close()
