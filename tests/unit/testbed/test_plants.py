# SPDX-License-Identifier: MIT
"""Every planted bug is found by the rule named, and a sound driver is never blamed."""

import pytest

from driver.model.plants import FOR_NOTHING_NS, PLANTS
from testbed.plants.catalogue import BUGS, PlantedBug, first_of
from testbed.plants.twin import run_plant

IDS = [bug.name for bug in BUGS]


@pytest.mark.parametrize("bug", BUGS, ids=IDS)
def test_planted_bug_is_not_found_by_its_rule(bug):
    catch = run_plant(bug)
    assert catch.caught, f"{bug.bug}: only {catch.spoke} spoke"
    assert catch.latency_ns is not None
    assert catch.latency_ns < (FOR_NOTHING_NS if bug.number == 21 else 0) + 1_000_000
    assert catch.said.split()[0] in bug.rules


@pytest.mark.parametrize("bug", BUGS, ids=IDS)
def test_sound_driver_is_blamed_in_the_scene_of_a_planted_bug(bug):
    assert run_plant(bug, planted=False).spoke == ()


def test_catalogue_and_plants_of_the_driver_differ():
    assert {bug.number for bug in BUGS} == set(PLANTS)


def test_only_a_rule_that_is_named_counts_as_caught():
    bug = PlantedBug(1, "a bug", ("O-3",), "page_pool")
    late, early = ("O-3", 90, "O-3 late"), ("O-3", 70, "O-3 early")
    catch = first_of(bug, "twin", 50, [("O-7", 10, "O-7"), late, early])
    assert (catch.caught, catch.latency_ns, catch.said) == (True, 20, "O-3 early")
    assert first_of(bug, "twin", 50, [("O-7", 60, "O-7")]).caught is False
