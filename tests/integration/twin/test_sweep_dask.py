# SPDX-License-Identifier: MIT
"""The same sweep on a Dask cluster and on processes: the same to the bit."""

from dataclasses import replace

import pytest

from testbed.cli import main
from testbed.sweep.errors import SchedulerError
from testbed.sweep.grid import grid, parse_axis
from testbed.sweep.pools import cluster_size, dask_pool, processes
from testbed.sweep.runner import run_points
from testbed.sweep.store import PointStore
from testbed.twin.scenario import load_twin
from tests.unit.twin.results import scenario
from tests.unit.twin.solvers import quick


@pytest.fixture(scope="module")
def address():
    distributed = pytest.importorskip("distributed", reason="pip install 'dmabed[dask]'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
    ) as cluster:
        yield cluster.scheduler_address


def test_results_on_a_cluster_are_those_of_processes_to_the_bit(address, tmp_path):
    base = replace(load_twin("line"), packets=20_000)
    axes = [
        parse_axis("strategy=page_pool,map_per_packet"),
        parse_axis("preset=vtd-strict,vtd-lazy"),
        parse_axis("traffic.kind=poisson"),
        parse_axis("traffic.rate_gbps=0.5"),
        parse_axis("seed=1,2"),
    ]
    scenarios = grid(base, axes)
    with PointStore(tmp_path / "dask.jsonl") as store:
        there = run_points(scenarios, dask_pool(address), cluster_size(address), store)
    with PointStore(tmp_path / "here.jsonl") as store:
        here = run_points(scenarios, processes, 2, store)
    assert there == here
    assert all(point.result is not None for point in here)
    assert len({point.result.cycles_per_packet for point in here}) > 4  # seeds do matter
    lines = [
        sorted((tmp_path / name).read_bytes().splitlines()) for name in ("dask.jsonl", "here.jsonl")
    ]
    assert lines[0] == lines[1]


def test_a_point_that_fails_on_the_cluster_is_named_and_the_others_are_kept(address):
    wanted = [replace(scenario(), seed=seed) for seed in (12, 13, 14)]
    found = run_points(wanted, dask_pool(address), cluster_size(address), solver=quick)
    assert [p.failure for p in found] == [None, "ArithmeticError: seed 13", None]


def test_the_command_line_takes_a_scheduler(address, tmp_path, capsys):
    command = ["sweep", "line", "--set", "packets=5000", "--vary", "preset=vtd-strict,vtd-lazy"]
    assert main([*command, "--scheduler", address, "--csv", str(tmp_path / "there.csv")]) == 0
    assert main([*command, "--workers", "1", "--csv", str(tmp_path / "here.csv")]) == 0
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_all_workers_are_used(address):
    assert cluster_size(address) == 2


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    pytest.importorskip("distributed", reason="pip install 'dmabed[dask]'")
    monkeypatch.setattr("testbed.sweep.pools._CONNECT_S", 0.5)
    with pytest.raises(SchedulerError, match=r"127\.0\.0\.1:9"):
        cluster_size("tcp://127.0.0.1:9")
