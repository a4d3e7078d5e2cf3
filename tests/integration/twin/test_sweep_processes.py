# SPDX-License-Identifier: MIT
"""Sweeps on real processes: one that dies, one that is killed, and one that goes on."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from testbed.sweep.pools import processes
from testbed.sweep.runner import run_points
from testbed.sweep.store import PointStore
from tests.unit.twin.results import scenario
from tests.unit.twin.solvers import deadly, quick, slow

ROOT = Path(__file__).parent.parent.parent.parent
SEEDS = range(20, 60)

CHILD = """
import sys
from pathlib import Path
from tests.integration.twin.test_sweep_processes import sweep
if __name__ == "__main__":
    sweep(Path(sys.argv[1]))
"""


def sweep(folder):
    """All seeds with the slow solver into ``folder``, two at a time."""
    base = replace(scenario(), about=str(folder / "calls"))
    wanted = [replace(base, seed=seed) for seed in SEEDS]
    with PointStore(folder / "points.jsonl") as store:
        return run_points(wanted, processes, 2, store, solver=slow)


def test_a_worker_that_dies_costs_its_own_point_only_and_is_named():
    wanted = [replace(scenario(), seed=seed) for seed in range(9)]
    found = run_points(wanted, processes, 2, solver=deadly)
    failed = [p for p in found if p.failure]
    assert [p.scenario.seed for p in failed] == [5]
    assert failed[0].failure.startswith("WorkerDiedError")
    assert [p.result.cycles_per_packet for p in found if p.result] == [
        quick(s.to_json(), "")["result"]["cycles_per_packet"] for s in wanted if s.seed != 5
    ]


def test_a_killed_sweep_goes_on_where_it_was_with_nothing_lost_or_counted_twice(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env=environment, start_new_session=True
    )
    points, calls = tmp_path / "points.jsonl", tmp_path / "calls"
    deadline = time.monotonic() + 60
    while not points.exists() or points.read_bytes().count(b"\n") < 5:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    with points.open("ab") as torn:
        torn.write(b'{"key": "half a li')
    kept = points.read_bytes().count(b"\n")
    before = Counter(calls.read_text().split())
    assert 5 <= kept < len(SEEDS)

    found = sweep(tmp_path)

    assert [p.status for p in found] == ["done"] * len(SEEDS)
    after = Counter(calls.read_text().split())
    again = {seed for seed in after if after[seed] > before.get(seed, 0)}
    assert len(again) == len(SEEDS) - kept
    with PointStore(points) as store:
        seeds = [p.scenario.seed for p in store.points.values()]
    assert sorted(seeds) == list(SEEDS)
    assert points.read_bytes().count(b"\n") == len(SEEDS)
