# SPDX-License-Identifier: MIT
"""The soak: its plan is text and back, its verdict hides nothing, a planted bug does not pass."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.model.plants import IgnoreMapError, LeaveMaster
from driver.model.steps import Steps
from testbed.scenario import RX_MODES
from testbed.soak.inprocess import KINDS, QUEUES, soak_in_process
from testbed.soak.plan import (
    Kind,
    Leg,
    Operation,
    Plan,
    PlanError,
    Planner,
    counted,
    legs_for,
    make_plan,
)
from testbed.soak.result import SoakResult, soak_lines, soak_tables
from vm.machine import ALL_IOMMUS

SEEDS = st.integers(0, 1 << 32)
QUICK = settings(max_examples=30, deadline=None)


@QUICK
@given(
    SEEDS, st.integers(1, 400_000), st.lists(st.sampled_from(ALL_IOMMUS), min_size=1, unique=True)
)
def test_printed_plan_is_not_the_plan_that_is_read(seed, packets, iommus):
    plan = make_plan(seed, packets, iommus, 4)
    assert Plan.parse(str(plan)) == plan
    assert make_plan(seed, packets, iommus, 4) == plan
    assert sum(leg.count for legs in plan.legs.values() for leg in legs) >= packets


@QUICK
@given(SEEDS, st.booleans())
def test_short_plan_leaves_an_operation_out(seed, mapped):
    legs = legs_for(Planner(seed, mapped, 4, tuple(Kind)), 1)
    assert set(counted(legs)) == set(Kind)


@QUICK
@given(SEEDS)
def test_guest_is_flooded_while_its_rings_change(seed):
    """Echoed frames, and modes that map each, are slow behind an IOMMU: see plan.SLOW_PPS."""
    mode = RX_MODES[0]
    for leg in legs_for(Planner(seed, True, 4, tuple(Kind)), 300_000):
        modes = {mode, *(v for op in leg.during for v in op.values if v in RX_MODES)}
        if leg.echo or modes & {"map_per_packet", "bulk_map"}:
            assert leg.pps <= 100 and leg.count <= 1500
        mode = next((v for op in reversed(leg.during) for v in op.values if v in RX_MODES), mode)


def test_life_is_traced_where_there_is_nothing_to_trace():
    plan = make_plan(3, 10_000, ("none", "amd-lazy"), 4)
    assert Kind.TRACE not in counted(plan.legs["none"])
    assert Kind.TRACE in counted(plan.legs["amd-lazy"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line seed N"),
        ("seed 1\n", "line seed N"),
        ("seed 1\niommu none\n", "under each line iommu NAME, legs"),
        ("seed x\niommu none\n", "'seed x'"),
        ("seed 1\niommu nun\n", "'iommu nun'"),
        ("seed 1\nbytes=60-60 count=1 flows=1 pps=1 bursts=1 echo=0\n", "then iommu NAME"),
        ("seed 1\niommu none\nbytes=60 count=1 flows=1 pps=1 bursts=1 echo=0\n", "no leg"),
        ("seed 1\niommu none\nbytes=60-60 count=1 flows=1 pps=1 bursts=1\n", "no leg: 'echo'"),
        ("seed 1\niommu none\nbytes=60-9999 count=1 flows=1 pps=1 bursts=1 echo=0\n", "range"),
        ("seed 1\niommu none\nbytes=60-60 count=0 flows=1 pps=1 bursts=1 echo=0\n", "range"),
        ("seed 1\niommu none\nbytes=60-60 count=1 flows=1 pps=1 bursts=1 echo=0 x=1\n", "unknown"),
    ],
)
def test_plan_that_cannot_be_played_is_played(text, words):
    with pytest.raises(PlanError, match=words):
        Plan.parse(text)


@pytest.mark.parametrize("text", ["flip:1", "flap", "flap:", "flap:x", "rings:64", "mode:pagepool"])
def test_operation_that_there_is_not_is_taken(text):
    with pytest.raises(PlanError):
        Operation.parse(text)
    line = "bytes=60-61 count=9 flows=2 pps=3 bursts=1 echo=1 rings:64:128 mode:bulk_map"
    assert str(Leg.parse(line)) == line


@pytest.mark.parametrize("seed", [1, 2])
def test_sound_driver_is_blamed_in_a_soak(seed):
    result = soak_in_process(10_000, seed, leg_packets=1_500)
    assert (result.word, result.violations, result.damaged, result.ok) == ("clean", [], 0, True)
    assert result.rx >= 10_000 and result.tx > 0 and result.late > 0
    assert set(result.operations) == set(KINDS) and max(QUEUES, 1) > 1
    assert not {"O-2", "O-5", "O-6", "O-17", "O-20"} & result.not_judged.keys()


@pytest.mark.parametrize(
    ("plant", "rules"), [(IgnoreMapError, {"O-1"}), (LeaveMaster, {"O-7", "O-11"})]
)
def test_bug_survives_a_soak(plant: type[Steps], rules: set[str]):
    result = soak_in_process(5_000, 1, steps=plant, leg_packets=1_000)
    assert not result.ok and rules & set(result.word.split())
    assert "NOT CLEAN" in soak_lines([result])[-1]


def made_up(**changes: object) -> SoakResult:
    values = {
        "rung": "vm", "iommu": "virtio-lazy", "seed": 1, "rx": 1_234_567, "tx": 7, "legs": 3,
        "operations": {"flap": 2}, "late": 5, "damaged": 0, "longest_ns": {"ifdown": 12_000_000},
        "events": {"MAP": 9}, "word": "exposed", "violations": [],
        "not_judged": {"O-5": ["buffers posted"]}, **changes,
    }  # fmt: skip
    return SoakResult(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [{"word": "violated O-3", "violations": ["O-3 nic"]}, {"damaged": 1}, {"notes": ["x"]}],
)
def test_soak_that_was_not_clean_is_called_clean(changes):
    assert made_up().ok and not made_up(**changes).ok
    lines = soak_lines([made_up(), made_up(**changes)])
    assert lines[-1] == "2,469,148 packets, NOT CLEAN"
    assert "virtio-lazy: longest: ifdown 12.0 ms" in lines
    assert "virtio-lazy: not judged: O-5 buffers posted" in lines
    assert [table.row_count for table in soak_tables([made_up()])] == [1, 1, 1]
