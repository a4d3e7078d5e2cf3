# SPDX-License-Identifier: MIT
"""Solves the points of a sweep on any ``concurrent.futures`` executor, and keeps them as they come.

A worker that raises costs its own point only. When a worker process dies, all that were at work
are suspects: each is tried again alone, and the one that kills its worker again is to blame.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from typing import Any

from testbed.sweep.point import Point, key_of, model_digest, point_of, solve
from testbed.sweep.store import PointStore
from testbed.twin.scenario import TwinScenario

Pool = Callable[[int], AbstractContextManager[Executor]]
"""Opens an executor of so many workers, as a context manager."""
Solver = Callable[[dict[str, Any], str], Mapping[str, Any]]
Tell = Callable[[Point], None]

_AHEAD = 2
"""Points handed to a pool for each of its workers: enough that none waits."""


def run_points(
    scenarios: Sequence[TwinScenario],
    pool: Pool,
    workers: int,
    store: PointStore | None = None,
    tell: Tell = lambda point: None,
    solver: Solver = solve,
) -> list[Point]:
    """The points of ``scenarios``, in their order. Those in ``store`` are not solved again.

    tell: is given each point once, as it comes. Failed points are in the list but not in the store.

    Raises:
        StoreError: a finished point cannot be kept.
    """
    done: dict[str, Point] = {}
    todo: dict[str, TwinScenario] = {}
    for scenario in scenarios:
        key = key_of(scenario)
        if store is not None and key in store.points:
            done[key] = point = Point(
                scenario, store.points[key].result, store.points[key].not_applicable
            )
            tell(point)
        else:
            todo[key] = scenario
    for point in _solved(_spread(todo.values()), pool, workers, solver):
        if store is not None and point.failure is None:
            store.add(point)
        done[key_of(point.scenario)] = point
        tell(point)
    return [done[key_of(scenario)] for scenario in scenarios]


def _spread(scenarios: Iterable[TwinScenario]) -> list[TwinScenario]:
    """Different strategies first: what two workers begin with, each compiles for the others."""
    seen: dict[str, int] = {}
    rank: list[tuple[int, int, TwinScenario]] = []
    for scenario in scenarios:
        seen[scenario.strategy] = seen.get(scenario.strategy, 0) + 1
        rank.append((seen[scenario.strategy], len(rank), scenario))
    return [scenario for _, _, scenario in sorted(rank, key=lambda each: each[:2])]


def _solved(
    scenarios: list[TwinScenario], pool: Pool, workers: int, solver: Solver
) -> Iterator[Point]:
    """Each scenario's point as it comes; broken pools are replaced."""
    left = iter(scenarios)
    while True:
        suspects: list[TwinScenario] = []
        with pool(workers) as executor:
            yield from _until_broken(left, executor, workers * _AHEAD, solver, suspects)
        if not suspects:
            return
        for scenario in suspects:
            alone: list[TwinScenario] = []
            with pool(1) as executor:
                yield from _until_broken(iter([scenario]), executor, 1, solver, alone)
            for culprit in alone:
                text = "WorkerDiedError: the worker's process died (killed, or out of memory)"
                yield Point(culprit, failure=text)


def _until_broken(
    left: Iterator[TwinScenario],
    executor: Executor,
    at_once: int,
    solver: Solver,
    suspects: list[TwinScenario],
) -> Iterator[Point]:
    """Points of ``left``; if a worker dies, what was under way is in ``suspects``."""
    under_way: dict[Future[Mapping[str, Any]], TwinScenario] = {}
    while not suspects:
        for scenario in itertools.islice(left, at_once - len(under_way)):
            try:
                under_way[executor.submit(solver, scenario.to_json(), model_digest())] = scenario
            except BrokenProcessPool:
                suspects.append(scenario)
                break
        if not under_way:
            return
        finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in finished:
            scenario = under_way.pop(future)
            if isinstance(future.exception(), BrokenProcessPool):
                suspects.append(scenario)
            else:
                yield _point(scenario, future)
    wait(under_way)
    for future, scenario in under_way.items():
        if isinstance(future.exception(), BrokenProcessPool):
            suspects.append(scenario)
        else:
            yield _point(scenario, future)


def _point(scenario: TwinScenario, future: Future[Mapping[str, Any]]) -> Point:
    error = future.exception()
    if error is not None:
        return Point(scenario, failure=f"{type(error).__name__}: {error}")
    return point_of(scenario, future.result())
