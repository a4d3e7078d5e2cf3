# SPDX-License-Identifier: MIT
"""The soak in short: every operation once, with the real driver; nobody is blamed."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.soak.command import NIC, soak
from testbed.soak.plan import Kind, Leg, Operation, Planner
from vm.artifacts import Artifacts

pytestmark = pytest.mark.vm
SEED = 5


def short(leg: Leg) -> Leg:
    """The same in less time, and on a busy host."""
    return replace(leg, count=min(leg.count, 3000), pps=min(leg.pps, 20))


def test_sound_driver_is_blamed_or_a_packet_damaged(artifacts: Artifacts, tmp_path: Path):
    planner = Planner(SEED, True, NIC.queues, tuple(Kind))
    legs = [short(leg) for leg, _ in zip(planner.legs(), Kind, strict=False)]
    # A socket that holds pages of rings, and of a driver, that are gone.
    held = ("reload:page_pool", "socket:4", "rings:64:64", "reload:page_pool")
    legs.append(Leg(60, 1514, 2000, 4, 20, 1, False, tuple(map(Operation.parse, held))))
    legs.append(Leg(60, 60, 2000, 4, 20, 1, False, ()))
    # A life of which the guest's trace sees all, and whose pools are counted at its end.
    legs.append(Leg(60, 60, 2000, 4, 20, 1, False, (Operation.parse("trace:page_pool"),)))
    result = asyncio.run(soak(artifacts, tmp_path, "intel-strict", legs, SEED, print))
    assert (result.word, result.violations, result.damaged, result.notes) == ("clean", [], 0, [])
    assert result.rx >= sum(leg.count for leg in legs) and result.tx > 0 and result.late > 0
    assert set(result.operations) == {kind.value for kind in Kind}
    # O-20 as far as the kernel was built without checkers.
    assert set(result.not_judged) - {"O-20"} == set()
