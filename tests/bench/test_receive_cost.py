# SPDX-License-Identifier: MIT
"""What the device pays to receive a packet: figures, and the counts that have to be exact."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.receive import ReceiveRig


@pytest.mark.parametrize("length", [60, 1514])
@pytest.mark.parametrize("burst", [64, 256])
@pytest.mark.parametrize("paged", [False, True], ids=["extent", "pages"])
def test_cost_of_a_burst(benchmark: Any, paged: bool, burst: int, length: int) -> None:
    rig = ReceiveRig(paged, length, burst)
    bursts = rig.rounds(1 << 30)
    benchmark.pedantic(rig.work, setup=lambda: next(bursts), rounds=100, warmup_rounds=10)
    rig.check()
    assert rig.received == 110 * burst
