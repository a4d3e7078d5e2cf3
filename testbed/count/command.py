# SPDX-License-Identifier: MIT
"""``dmabed count``: counts, prints the tables, writes JSON, text and picture."""

from __future__ import annotations

import argparse
import asyncio
import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from testbed.count.kernels import kernels_table, release_key
from testbed.count.plot import draw_count
from testbed.count.results import FATES, MODES, CountResult
from testbed.count.run import COUNTED_IOMMUS, CountPlan, count
from testbed.count.table import count_text, print_count
from testbed.errors import TestbedError
from testbed.report.progress import RunProgress
from testbed.report.table import PIPE_WIDTH, report_console
from testbed.report.writer import point_latest, run_folder, write_atomically
from vm.artifacts import Artifacts, setup
from vm.kernels import other_kernels
from vm.machine import IOMMUS


def add_count(actions: Any, out: Path) -> None:  # noqa: ANN401 - argparse names no type for it
    """Adds the action to the command line; reports go to a folder in ``out`` by default."""
    what = "count what each receive strategy costs the kernel per packet"
    parser = actions.add_parser("count", help=what, description=what)
    parser.add_argument("--rx-mode", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--iommu", nargs="+", choices=IOMMUS, default=COUNTED_IOMMUS)
    parser.add_argument("--fate", nargs="+", choices=FATES, default=FATES, help="of the packets")
    parser.add_argument("--bursts", type=int, default=2, help="of 512 frames, for each row")
    parser.add_argument("--kernels", action="store_true", help="on older and newer kernels, too")
    parser.add_argument("--out", type=Path, default=out, help="where the report's folder is made")
    parser.set_defaults(action=run_count)


def add_reprice(actions: Any) -> None:  # noqa: ANN401 - argparse names no type for it
    """Adds the action that makes prices of the twin out of a count."""
    what = "price the twin by the instructions of a count: a host preset and an IOMMU preset"
    parser = actions.add_parser("reprice", help=what, description=what)
    parser.add_argument(
        "count", type=Path, nargs="?", help="count.json of a report (the one that is kept)"
    )
    parser.add_argument("--name", help="of the presets (counted-, and the kernel's version)")
    parser.add_argument(
        "--cpi", type=float, default=1.0, metavar="CYCLES", help="per instruction (1.0)"
    )
    parser.set_defaults(action=run_reprice)


def run_reprice(chosen: argparse.Namespace) -> int:
    """Writes the presets; returns the exit status."""
    from testbed.count.kept import KEPT, load_count
    from testbed.count.reprice import STRICT, preset_name, write_presets

    if not 0 < chosen.cpi < 1000:
        raise TestbedError(f"--cpi {chosen.cpi:g}: give cycles per instruction above 0")
    result = load_count(chosen.count or KEPT)
    name = chosen.name or preset_name(result)
    for path in write_presets(result, name, chosen.cpi):
        print(path)
    print(f"try: dmabed compare --set host={name} --presets passthrough,{name}{STRICT}")
    return 0


def run_count(chosen: argparse.Namespace) -> int:
    """Counts what the command line asks for; returns the exit status."""
    artifacts = setup(print)
    folder = run_folder(chosen.out, kind="count")
    plan = CountPlan(chosen.rx_mode, chosen.iommu, chosen.fate, max(chosen.bursts, 1))
    others = other_kernels(artifacts.cache, print) if chosen.kernels else []
    result = _count(artifacts, plan, folder)
    write_count(result, folder)
    point_latest(folder)
    print_count(result)
    results = [
        result,
        *(_count(replace(artifacts, kernel=k), plan, folder / k.release) for k in others),
    ]
    if others:
        print("\n" + write_kernels(results, folder))
    print(f"\nreport: {folder / 'count.txt'}, count.json, count.png, count.svg")
    return 0


def _count(artifacts: Artifacts, plan: CountPlan, folder: Path) -> CountResult:
    with RunProgress(len(plan)) as progress:
        return asyncio.run(count(artifacts, plan, folder, progress))


def write_kernels(results: Sequence[CountResult], folder: Path) -> str:
    """Writes kernels.txt, each kernel beside the one before it, and each one's counts as JSON.

    Returns the text.

    Raises:
        ReportError: one of them cannot be written.
    """
    ordered = sorted(results, key=lambda result: release_key(result.kernel_release))
    text = io.StringIO()
    console = report_console(text, PIPE_WIDTH)
    for old, new in pairwise(ordered):
        console.print(kernels_table(old, new))
    shown = "".join(f"{line.rstrip()}\n" for line in text.getvalue().strip("\n").split("\n"))
    write_atomically(folder / "kernels.txt", shown.encode())
    for result in results:
        data = result.to_json().encode()
        write_atomically(folder / f"count-{result.kernel_release}.json", data)
    return shown


def write_count(result: CountResult, folder: Path) -> None:
    """Writes count.json, count.txt, count.png and count.svg.

    Raises:
        ReportError: one of them cannot be written.
    """
    plot = draw_count(result)
    for name, data in (
        ("count.json", result.to_json().encode()),
        ("count.txt", count_text(result).encode()),
        ("count.png", plot.png),
        ("count.svg", plot.svg),
    ):
        write_atomically(folder / name, data)
