# SPDX-License-Identifier: MIT
"""Points as rows of plain values: CSV, and what the tables show of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from testbed.sweep.grid import value_at
from testbed.sweep.point import Point
from testbed.twin.host import CATEGORIES
from testbed.twin.result import TwinResult

EXPOSURES = ("held by the stack", "free for anybody", "all of memory")
LINES_GBPS = (10, 25, 40, 100, 200, 400)

_SCALARS = (
    "packets",
    "lost",
    "seconds",
    "maps_per_packet",
    "unmaps_per_packet",
    "invalidations_per_packet",
    "iotlb_misses_per_packet",
    "walk_reads_per_packet",
    "atomics_per_packet",
    "allocator_calls_per_packet",
    "copies_per_packet",
    "cycles_per_packet",
    "budget_cycles",
    "cpu_pps",
    "device_pps",
    "wire_pps",
    "pps",
    "exposure_per_packet",
    "longest_stale_us",
    "stale_peak",
    "pinned_bytes",
    "pinned_per_claimed",
    "live_after",
    "inflight_after",
)


def csv_text(points: Iterable[Point], varied: Sequence[str] = ()) -> str:
    """One row a point: strategy, preset, the ``varied`` keys, status, then every number.

    cycles.*: cycles for each packet; exposure.*: byte-us for each packet; violations: by rule.
    Numbers are written so that reading them gives the same float.
    """
    extra = [key for key in varied if key not in ("strategy", "preset")]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    heads = ["strategy", "preset", *extra, "status", "why", *_SCALARS]
    heads += [f"cycles.{name}" for name in CATEGORIES]
    heads += [f"exposure.{name}" for name in EXPOSURES]
    out.writerow([*heads, "violations"])
    for point in points:
        scenario = point.scenario
        row = [scenario.strategy, scenario.preset, *(value_at(scenario, key) for key in extra)]
        row += [point.status, point.not_applicable or point.failure or ""]
        out.writerow([*row, *(_numbers(point.result) if point.result else ())])
    return text.getvalue()


def _numbers(result: TwinResult) -> list[object]:
    row: list[object] = [getattr(result, name) for name in _SCALARS]
    row += [result.cycles[name] for name in CATEGORIES]
    row += [result.exposure[name] for name in EXPOSURES]
    return [*row, violations_text(result, ";")]


def violations_text(result: TwinResult, between: str = " ") -> str:
    """``O-2 x17``, or ``-``."""
    found = [f"{rule} x{count}" for rule, count in result.violations.items()]
    return between.join(found) if found else "-"


def budget_lines(result: TwinResult, line_gbps: float) -> list[tuple[int, float, float]]:
    """(Gb/s, cycles between two such packets at that rate, share that this run takes), by line."""
    found = []
    for gbps in LINES_GBPS:
        budget = result.budget_cycles * line_gbps / gbps
        found.append((gbps, budget, result.cycles_per_packet / budget))
    return found


def magnitude(value: float) -> str:
    """At most five characters and a letter: ``0``, ``0.5``, ``873``, ``4.2 k``, ``17 M``."""
    if value == 0:
        return "0"
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")):
        if value >= 0.9995 * size or size == 1.0:
            scaled = value / size
            form = f"{scaled:.0f}" if scaled >= 99.5 else f"{scaled:.3g}"
            return f"{form}{letter}"
    return f"{value:.3g}"


def data_size(count: float) -> str:
    """``512 KiB``, ``2 MiB``."""
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
