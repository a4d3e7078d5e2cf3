# SPDX-License-Identifier: MIT
"""A sweep on an executor: order, failures, and what is not done again."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from testbed.sweep.runner import run_points
from testbed.sweep.store import PointStore
from tests.unit.twin.results import scenario
from tests.unit.twin.solvers import quick


def seeds(*numbers, strategy="page_pool"):
    return [replace(scenario(strategy), seed=number) for number in numbers]


def run(scenarios, **more):
    return run_points(scenarios, ThreadPoolExecutor, 3, solver=quick, **more)


def test_points_are_in_the_order_asked_for_and_each_is_told_once():
    wanted = seeds(*range(20), *range(20, 12, -1))
    told = []
    found = run(wanted, tell=told.append)
    assert [p.scenario for p in found] == wanted
    assert sorted(p.scenario.seed for p in told) == list(range(21))[:21]
    assert found[3].result.cycles_per_packet == 100.0 + 3 / 7


def test_a_worker_that_fails_costs_its_own_point_only_and_is_named():
    found = run(seeds(11, 12, 13, 14))
    assert [p.status for p in found] == ["done", "done", "failed", "done"]
    assert found[2].failure == "ArithmeticError: seed 13"


def test_a_pair_that_does_not_apply_is_a_result(tmp_path):
    with PointStore(tmp_path / "p.jsonl") as store:
        found = run(seeds(1, strategy="mempool"), store=store)
    assert found[0].not_applicable == "mempool needs a window"
    with PointStore(tmp_path / "p.jsonl") as store:
        assert len(store.points) == 1


def test_failed_points_are_tried_again_and_finished_ones_are_not(tmp_path):
    asked = []

    def counting(tree, model):
        asked.append(tree["seed"])
        return quick(tree, model)

    wanted = seeds(11, 12, 13)
    path = tmp_path / "p.jsonl"
    for _ in range(2):
        with PointStore(path) as store:
            found = run_points(wanted, ThreadPoolExecutor, 2, store, solver=counting)
    assert sorted(asked) == [11, 12, 13, 13]
    assert [p.status for p in found] == ["done", "done", "failed"]


def test_different_strategies_are_begun_first_so_that_each_is_compiled_once():
    asked = []

    def counting(tree, model):
        asked.append(tree["strategy"])
        return quick(tree, model)

    wanted = seeds(1, 2, 3) + seeds(1, 2, 3, strategy="map_per_packet")
    run_points(wanted, ThreadPoolExecutor, 1, solver=counting)
    assert set(asked[:2]) == {"page_pool", "map_per_packet"}
