# SPDX-License-Identifier: MIT
"""What ``--vary`` makes of a scenario, and what it refuses."""

import pytest

from testbed.sweep.errors import VaryError
from testbed.sweep.grid import Axis, grid, parse_axis, value_at
from testbed.twin.scenario import (
    PRESET_NAMES,
    STRATEGY_NAMES,
    dotted_keys,
    load_twin,
    twin_scenarios,
)
from tests.unit.twin.results import scenario


def test_every_combination_once_the_last_axis_fastest():
    axes = [parse_axis("driver.queues=1,2,2"), parse_axis("strategy=page_pool,mempool")]
    found = [(s.driver.queues, s.strategy) for s in grid(scenario(), axes)]
    assert found == [(1, "page_pool"), (1, "mempool"), (2, "page_pool"), (2, "mempool")]


def test_values_are_read_as_in_a_scenario():
    assert parse_axis("a=1,2.5,true,word") == Axis("a", (1, 2.5, True, "word"))
    found = grid(scenario(), [parse_axis("traffic.rate_gbps=10,2.5")])
    assert [s.traffic.rate_gbps for s in found] == [10.0, 2.5]


def test_all_means_every_strategy_and_every_preset():
    assert parse_axis("strategy=all").values == STRATEGY_NAMES
    assert parse_axis("preset=all").values == PRESET_NAMES


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("driver.queues", "write KEY=VALUE"),
        ("driver.queues=", "write KEY=VALUE"),
        ("driver.queues=1,,2", "write KEY=VALUE"),
    ],
)
def test_what_is_no_axis_is_refused(text, why):
    with pytest.raises(VaryError, match=why):
        parse_axis(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("driver.queue=1", "did you mean .*driver.queues"),
        ("driver=1", "no key driver"),
        ("driver.queues=0", "1 to 64"),
        ("driver.queues=two", "whole number"),
        ("strategy=page_pol", "did you mean .*page_pool"),
        ("memory.mib=8", "cannot fill the rings"),
    ],
)
def test_what_a_scenario_may_not_be_is_refused_with_what_it_may(text, why):
    with pytest.raises(VaryError, match=why):
        grid(scenario(), [parse_axis("driver.ring=1024"), parse_axis(text)])


def test_a_key_given_twice_is_refused():
    with pytest.raises(VaryError, match="given twice"):
        grid(scenario(), [Axis("seed", (1,)), Axis("seed", (2,))])


def test_a_grid_nobody_can_wait_for_is_refused():
    with pytest.raises(VaryError, match="at most"):
        grid(scenario(), [Axis("seed", tuple(range(1000))), Axis("packets", tuple(range(1, 200)))])


def test_every_bundled_scenario_loads_and_says_what_it_is():
    names = twin_scenarios()
    assert len(names) >= 10
    assert len({load_twin(name).about for name in names}) == len(names)
    assert "no description" not in {load_twin(name).about for name in names}


def test_the_first_scenario_explains_every_key():
    from testbed.twin.scenario import FOLDER

    text = (FOLDER / "line.toml").read_text()
    tree = load_twin("line").to_json()
    for key in dotted_keys(tree):
        assert f"\n{key.rpartition('.')[2]} = " in text, key
        assert value_at(load_twin("line"), key) is not None
