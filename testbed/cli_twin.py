# SPDX-License-Identifier: MIT
"""``dmabed twin | compare | sweep | predict``: what runs in virtual time. Needs no VM."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.sweep.grid import Axis
    from testbed.sweep.point import Point
    from testbed.sweep.store import PointStore
    from testbed.twin.scenario import TwinScenario

OUT = Path("out")
_DEFAULT = "line"


def add_twin_actions(actions: Any) -> None:  # noqa: ANN401
    """Registers them with the sub-parsers of ``dmabed``.

    What they need is imported when they run: NumPy and Numba take a second to load.
    """
    one = _action(actions, "twin", _twin, "run a scenario in virtual time and show all of it")
    _scenario_arguments(one, required=True)
    one.add_argument("--trace", type=Path, metavar="FILE", help="a timeline for ui.perfetto.dev")
    one.add_argument("--trace-polls", type=int, default=200, metavar="N", help="its length (200)")
    one.add_argument(
        "--trace-after", type=int, default=0, metavar="PACKETS", help="where it begins (0)"
    )
    every = _action(
        actions, "compare", _compare, "every strategy under every IOMMU, with figures and a page"
    )
    _scenario_arguments(every, required=False)
    every.add_argument("--strategies", help="only these, with commas between")
    every.add_argument("--presets", help="only these, with commas between")
    _sweep_arguments(every)
    sweep = _action(actions, "sweep", _sweep, "vary any keys of a scenario; go on where it stopped")
    _scenario_arguments(sweep, required=True)
    sweep.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="KEY=A,B,...",
        help="driver.queues=1,2,4; strategy=all; several: all combinations",
    )
    _sweep_arguments(sweep)
    guess = _action(
        actions, "predict", _predict, "predicted and measured counts of the VM's scenario"
    )
    guess.add_argument("--results", type=Path, default=OUT / "latest" / "results.json")
    guess.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")


def _action(actions: Any, name: str, action: Any, what: str) -> argparse.ArgumentParser:  # noqa: ANN401
    parser: argparse.ArgumentParser = actions.add_parser(name, help=what, description=what)
    parser.set_defaults(action=action)
    return parser


def _scenario_arguments(parser: argparse.ArgumentParser, required: bool) -> None:
    text = "a .toml file, or the name of one in testbed/twin/scenarios"
    if required:
        parser.add_argument("scenario", help=text)
    else:
        parser.add_argument("scenario", nargs="?", default=_DEFAULT, help=f"{text} ({_DEFAULT})")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="instead of the file's"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there as well")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there as well")


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help="processes (one for each CPU)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, tcp://host:port")
    parser.add_argument("--out", type=Path, default=OUT, help="where the folder is made")
    parser.add_argument(
        "--points", type=Path, metavar="FILE", help="keep finished points there and go on from them"
    )


def _load(chosen: argparse.Namespace) -> TwinScenario:
    from testbed.sweep.grid import grid, parse_axis
    from testbed.twin.scenario import load_twin

    scenario = load_twin(chosen.scenario)
    for text in chosen.set:
        axis = parse_axis(text)
        scenario = replace(grid(scenario, [axis])[-1], name=scenario.name)
    return scenario


# ---------------------------------------------------------------------- twin
def _twin(chosen: argparse.Namespace) -> int:
    from testbed.report.table import report_console
    from testbed.report.twin.progress import run_with_bar
    from testbed.report.twin.rows import csv_text
    from testbed.report.twin.table import print_parts, run_parts
    from testbed.sweep.point import Point

    scenario = _load(chosen)
    console = report_console()
    if chosen.trace:
        _trace(scenario, chosen)
    result = run_with_bar(scenario, console)
    print_parts(run_parts(scenario, result), console)
    point = Point(scenario, result)
    if chosen.json:
        _write_points(chosen.json, [point])
    if chosen.csv:
        _write(chosen.csv, csv_text([point]))
    return 3 if result.violations else 0


def _trace(scenario: TwinScenario, chosen: argparse.Namespace) -> None:
    from testbed.twin_trace import trace_twin

    text = trace_twin(scenario, chosen.trace_polls, chosen.trace_after)
    _write(chosen.trace, text)
    print(f"trace: {chosen.trace}: open it in ui.perfetto.dev")


# ---------------------------------------------------------------------- many
def _compare(chosen: argparse.Namespace) -> int:
    from testbed.comparison import (
        PUBLISHED_PRESETS,
        Comparison,
        amortisation_of,
        grid_of,
        queues_of,
    )
    from testbed.report.table import report_console
    from testbed.report.twin.table import points_table, print_parts
    from testbed.report.twin.writer import write_comparison
    from testbed.report.writer import point_latest, run_folder
    from testbed.twin.scenario import PRESET_NAMES, STRATEGY_NAMES

    base = _load(chosen)
    strategies = _names(chosen.strategies, "strategy", STRATEGY_NAMES)
    presets = _names(chosen.presets, "preset", PRESET_NAMES, PUBLISHED_PRESETS)
    parts = (grid_of(base, strategies, presets), queues_of(base), amortisation_of(base))
    folder = run_folder(chosen.out, kind="compare")
    scenarios = [scenario for part in parts for scenario in part]
    points = _solve(scenarios, chosen, chosen.points or folder / "points.jsonl")
    ends = (len(parts[0]), len(parts[0]) + len(parts[1]))
    found = Comparison(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(["dmabed", *sys.argv[1:]]),
        base=base,
        grid=tuple(points[: ends[0]]),
        queues=tuple(points[ends[0] : ends[1]]),
        amortisation=tuple(points[ends[1] :]),
    )
    page = write_comparison(found, folder)
    point_latest(folder, "latest-compare")
    print_parts([points_table(found.grid)], report_console())
    _write_asked(chosen, list(found.grid), ())
    print(f"\nreport: {page}")
    return _status(points)


def _sweep(chosen: argparse.Namespace) -> int:
    from testbed.report.table import report_console
    from testbed.report.twin.table import points_table, print_parts
    from testbed.sweep.grid import grid, parse_axis

    axes: list[Axis] = [parse_axis(text) for text in chosen.vary]
    scenarios = grid(_load(chosen), axes)
    varied = [axis.key for axis in axes]
    points = _solve(scenarios, chosen, chosen.points)
    print_parts([points_table(points, varied)], report_console())
    _write_asked(chosen, points, varied)
    return _status(points)


def _solve(
    scenarios: Sequence[TwinScenario], chosen: argparse.Namespace, path: Path | None
) -> list[Point]:
    from testbed.report.table import report_console
    from testbed.report.twin.progress import PointProgress
    from testbed.sweep.pools import cluster_size, cpu_count, dask_pool, processes
    from testbed.sweep.runner import Pool, run_points

    pool: Pool = processes
    workers = chosen.workers or cpu_count()
    if chosen.scheduler:
        pool, workers = dask_pool(chosen.scheduler), cluster_size(chosen.scheduler)

    def run(store: PointStore | None) -> list[Point]:
        with PointProgress(len(scenarios), report_console()) as progress:
            return run_points(scenarios, pool, workers, store, progress.tell)

    if path is None:
        return run(None)
    from testbed.sweep.store import PointStore

    with PointStore(path) as store:
        return run(store)


def _names(
    text: str | None, what: str, known: tuple[str, ...], default: tuple[str, ...] = ()
) -> tuple[str, ...]:
    from emulator.fields import did_you_mean
    from testbed.sweep.errors import VaryError

    if text is None:
        return default or known
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise VaryError(f'{what} "{name}" is unknown; allowed: {", ".join(known)}{hint}')
    return names


def _status(points: Sequence[Point]) -> int:
    failed = [point for point in points if point.failure is not None]
    if failed:
        sys.stderr.write(f"dmabed: {len(failed)} of {len(points)} points failed; see above\n")
        return 1
    return 0


# ---------------------------------------------------------------------- predict
def _predict(chosen: argparse.Namespace) -> int:
    from testbed.predict import predictions, rows_json
    from testbed.report.table import report_console
    from testbed.report.twin.prediction import prediction_table
    from testbed.results import RunResult

    rows = predictions(RunResult.load(chosen.results))
    report_console().print(prediction_table(rows))
    if chosen.json:
        _write(chosen.json, rows_json(rows))
    return 0 if all(row.agrees for row in rows) else 4


# ---------------------------------------------------------------------- files
def _write_asked(chosen: argparse.Namespace, points: list[Point], varied: Sequence[str]) -> None:
    from testbed.report.twin.rows import csv_text

    if chosen.json:
        _write_points(chosen.json, points)
    if chosen.csv:
        _write(chosen.csv, csv_text(points, varied))


def _write_points(path: Path, points: Sequence[Point]) -> None:
    import json

    _write(path, json.dumps([point.to_json() for point in points], indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    from testbed.report.writer import write_atomically

    write_atomically(path, text.encode())
