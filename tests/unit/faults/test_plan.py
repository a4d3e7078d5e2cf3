# SPDX-License-Identifier: MIT
"""A plan of faults is read strictly, and a trigger repeats for its seed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.faults.errors import FaultPlanError, UnknownFaultError
from emulator.faults.plan import FaultSpec, parse_plan
from emulator.faults.registry import ELSEWHERE, FAULTS, LAST, UNUSED, default_plan, fault_class
from emulator.faults.trigger import Trigger


def problems(text):
    with pytest.raises(FaultPlanError) as error:
        parse_plan(text)
    return error.value.problems


def test_a_plan_is_read():
    plan = parse_plan(
        'seed = 7\n[[fault]]\nname = "gone"\nafter_us = 5\n[[fault]]\nname = "bit-flip"\nnth = 2\n'
    )
    assert plan.seed == 7
    assert plan.faults == (FaultSpec("gone", after_us=5), FaultSpec("bit-flip", nth=2))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[[fault]]\nname = "gone"\n[[fault]]\nname = "gone"\nnht = 3\n', 5, 'did you mean "nth"'),
        ('[[fault]]\nname = "goen"\n', 2, 'did you mean "gone"'),
        ("sead = 1\n", 1, "unknown key sead"),
        ('seed = 1\n[[fault]]\nname = "gone"\nevery = 0\n', 4, "out of range"),
        ('[[fault]]\nname = "gone"\nnth = 1\nevery = 2\n', 4, "both nth and every"),
        ("[[fault]]\nnth = 1\n", 1, "lacks the key name"),
        ("[fault]\nnth = 1\n", 1, "write [[fault]]"),
        ("seed = 1\nname = \n", 2, "not TOML"),
    ],
)
def test_a_mistake_in_a_plan_is_named_with_its_line(text, line, words):
    found = problems(text)
    assert [number for number, _ in found] == [line]
    assert words in found[0][1]


def test_every_mistake_is_named_at_once():
    assert len(problems('a = 1\n[[fault]]\nname = "x"\nb = 2\n')) == 3


def test_every_number_of_the_catalogue_is_a_fault_or_says_where_it_is():
    numbers = {f"X-{n}" for n in range(1, LAST + 1) if n not in UNUSED}
    here = {kind.number for kind in FAULTS.values()}
    assert here | set(ELSEWHERE) == numbers
    assert not here & set(ELSEWHERE)


def test_a_fault_that_says_nothing_of_itself_is_not_registered():
    for name, kind in FAULTS.items():
        assert kind.name == name
        assert kind.__doc__
        assert len(kind.shows) > 20
        assert kind.expect
        assert default_plan(name).faults[0].name == name


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownFaultError, match='did you mean "lost-doorbell"'):
        fault_class("lost-dorbell")


def taken(spec, seed=1, opportunities=200, step_ns=1000):
    trigger = Trigger(spec, seed, 0)
    return [n for n in range(1, opportunities + 1) if trigger.strikes(n * step_ns)]


def test_nth_every_after_and_times_choose_the_opportunities_they_say():
    assert taken(FaultSpec("gone", nth=5)) == [5]
    assert taken(FaultSpec("gone", nth=5, times=3)) == [5, 6, 7]
    assert taken(FaultSpec("gone", every=50, times=0)) == [50, 100, 150, 200]
    assert taken(FaultSpec("gone", after_us=100)) == [100]
    assert taken(FaultSpec("gone", times=0)) == list(range(1, 201))


@given(seed=st.integers(0, 1 << 62), share=st.floats(0.05, 0.9))
def test_what_is_left_to_chance_repeats_for_a_seed_only(seed, share):
    spec = FaultSpec("gone", probability=share, times=0)
    once = taken(spec, seed, 400)
    assert once == taken(spec, seed, 400)
    assert once != taken(spec, seed + 1, 400)
    assert 0 < len(once) < 400


def test_a_state_ends_by_time_or_by_reset_and_does_not_set_in_again():
    by_time = Trigger(FaultSpec("gone", lasting_us=10), 1, 0)
    assert by_time.begins(1_000)
    assert not by_time.begins(2_000)
    assert by_time.lasts(10_999)
    assert by_time.end_ns(2_000) == 11_000
    assert not by_time.lasts(11_000)
    assert by_time.end_ns(11_000) is None
    by_reset = Trigger(FaultSpec("frozen", until_reset=1), 1, 0)
    by_reset.was_reset()
    assert by_reset.begins(0)
    assert by_reset.lasts(1 << 62)
    by_reset.was_reset()
    assert not by_reset.lasts(1)


def test_a_place_outside_the_scope_does_not_suffer():
    trigger = Trigger(FaultSpec("gone", queue=1, vector=3), 1, 0)
    assert trigger.fits()
    assert trigger.fits(queue=1, vector=3)
    assert not trigger.fits(queue=0)
    assert not trigger.fits(vector=2)


def test_every_fault_stands_in_the_documentation():
    from pathlib import Path

    from testbed.faults.process import PLAYS

    text = (Path(__file__).parents[3] / "docs" / "faults.md").read_text()
    for name, kind in FAULTS.items():
        assert f"| {kind.number} | {name} | {kind.shows} |" in text
    for name, play in PLAYS.items():
        assert f"| {play.number} | {name} | {play.shows} |" in text
    for number, why in ELSEWHERE.items():
        assert f"- {number}: {why}\n" in text
    told = {int(n) for n in re.findall(r"^(?:\| |- )X-(\d+)", text, re.M)}
    assert told == set(range(1, LAST + 1)) - UNUSED


def test_fault_that_writes_where_it_likes_is_played_without_an_iommu():
    from testbed.faults.vm import needs_iommu

    assert needs_iommu("wild-address") and needs_iommu("kept-descriptors")
    assert needs_iommu("slow-unmap") and not needs_iommu("lost-interrupt")
