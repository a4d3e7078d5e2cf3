# SPDX-License-Identifier: MIT
"""What a comparison says in sentences; every number in them comes from its points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testbed.comparison import Comparison
from testbed.report.twin.curves import amortisation_title, queues_title
from testbed.report.twin.frontier import Spot, pareto, spots_of
from testbed.report.twin.rows import magnitude, violations_text
from testbed.report.units import plural, ratio, sentence_list
from testbed.report.verdict import Finding, unique
from testbed.sweep.point import Point
from testbed.twin.result import TwinResult


def findings_of(found: Comparison) -> tuple[Finding, ...]:
    """In the order one asks."""
    return (
        *_frontier(found.grid),
        *_budget(found.grid),
        *_savings(found.grid),
        *_exposure(found.grid),
        *_violations(found.grid),
        *_curves(found),
    )


def headline_of(found: Comparison) -> str:
    """What was compared."""
    ran = [point for point in found.grid if point.result is not None]
    apply_not = sum(point.not_applicable is not None for point in found.grid)
    strategies = len({p.scenario.strategy for p in ran})
    presets = len({p.scenario.preset for p in ran})
    text = f"{plural(strategies, 'strategy', 'strategies')} under {plural(presets, 'IOMMU')}: "
    text += f"{found.base.about}."
    return text + (f" {plural(apply_not, 'pair does', 'pairs do')} not apply." if apply_not else "")


def _frontier(grid: Sequence[Point]) -> Iterator[Finding]:
    front = pareto(spots_of(grid))
    if front:
        text = "Nothing is both cheaper and safer than: " + sentence_list([_spot(s) for s in front])
        yield Finding("the frontier", "info", text + ".")


def _spot(spot: Spot) -> str:
    exposure = "nothing exposed" if spot.exposure == 0 else f"{magnitude(spot.exposure)} byte-us"
    return f"{spot.strategy} under {spot.preset} ({spot.cycles:.0f} cycles, {exposure})"


def _budget(grid: Sequence[Point]) -> Iterator[Finding]:
    for preset in unique(p.scenario.preset for p in grid):
        ran = _results(grid, preset)
        fit = [r.strategy for r in ran if r.cycles_per_packet <= r.budget_cycles]
        if ran and fit:
            budget = f"{ran[0].budget_cycles:.0f} cycles"
            text = f"Within {budget} under {preset}: {sentence_list(fit)}."
            yield Finding("the budget", "good", text)
        elif ran:
            yield Finding("the budget", "warn", f"Under {preset} no strategy is within the budget.")


def _savings(grid: Sequence[Point]) -> Iterator[Finding]:
    parts = []
    for preset in unique(p.scenario.preset for p in grid):
        by_name = {r.strategy: r for r in _results(grid, preset)}
        pool, each = by_name.get("page_pool"), by_name.get("map_per_packet")
        if pool and each and pool.cycles_per_packet:
            factor = ratio(each.cycles_per_packet / pool.cycles_per_packet)
            parts.append(f"{factor} under {preset}")
    if parts:
        text = f"Cycles of map_per_packet over those of page_pool: {sentence_list(parts)}."
        yield Finding("what a pool saves", "info", text)


def _exposure(grid: Sequence[Point]) -> Iterator[Finding]:
    ran = [p.result for p in grid if p.result is not None]
    closed = [f"{r.strategy} under {r.preset}" for r in ran if r.exposure_per_packet == 0]
    if closed:
        text = f"Nothing is exposed by {sentence_list(closed)}."
        yield Finding("exposure", "good", text)
    freed = {r.strategy for r in ran if r.exposure["free for anybody"] and r.preset == "vtd-strict"}
    if freed:
        text = "Even under vtd-strict the device reaches memory that was freed, with "
        yield Finding("exposure", "warn", f"{text}{sentence_list(sorted(freed))}.")


def _violations(grid: Sequence[Point]) -> Iterator[Finding]:
    broken = [p.result for p in grid if p.result is not None and p.result.violations]
    for result in broken:
        text = f"{result.strategy} under {result.preset}: {violations_text(result)}"
        yield Finding("rules violated", "bad", text)
    if not broken:
        yield Finding("rules violated", "good", "None, by any strategy under any IOMMU.")


def _curves(found: Comparison) -> Iterator[Finding]:
    if any(p.result for p in found.amortisation):
        yield Finding("amortisation", "info", amortisation_title(found.amortisation) + ".")
    if any(p.result for p in found.queues):
        yield Finding("queues", "info", queues_title(found.queues) + ".")


def _results(grid: Sequence[Point], preset: str) -> list[TwinResult]:
    return [p.result for p in grid if p.result is not None and p.result.preset == preset]
