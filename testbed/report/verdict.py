# SPDX-License-Identifier: MIT
"""What the numbers of a run say, in sentences. Every sentence is computed; none is assumed.

The question behind them: what does keeping pages mapped save, and what stays reachable for the
device after the memory was given back?
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from testbed.report.rivals import kept_of_no_iommu, standings
from testbed.report.rules import rules_sentence
from testbed.report.units import (
    duration,
    latency,
    per_packet,
    percent,
    plural,
    ratio,
    sentence_list,
    significant,
    span,
)
from testbed.results import CaseResult, CurvePoint, RunResult, baseline, find_case, rate_ratio
from testbed.scenario import Iommu, Strategy

#: What the bench is meant to show: this many times the best of QEMU's own NICs.
_WANTED_FACTOR = 2.0

Level = Literal["good", "info", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the numbers say. ``topic`` is a word or two, ``text`` whole sentences."""

    topic: str
    level: Level
    text: str


def headline(run: RunResult) -> Finding:
    """The verdict in one sentence: rules violated, else what stayed exposed, else clean."""
    total = len(run.cases)
    broken = [case for case in run.cases if case.violations or case.verdict == "violated"]
    if not total:
        return Finding("verdict", "info", "No case was run, so nothing was judged.")
    cases = plural(total, "case")
    if broken:
        count = sum(max(1, len(case.violations)) for case in broken)
        what = plural(count, "violation")
        return Finding("verdict", "bad", f"{what} of the DMA rules, in {len(broken)} of {cases}.")
    exposed = [case for case in run.cases if is_exposed(case)]
    if exposed:
        where = sentence_list(unique(case.iommu for case in exposed))
        text = f"No rule was violated in {cases}, but memory given back stayed reachable for the "
        return Finding("verdict", "warn", f"{text}device under {where}.")
    text = f"No rule was violated in {cases}, and no mapping outlived its memory."
    return Finding("verdict", "good", text)


def findings(run: RunResult) -> tuple[Finding, ...]:
    """Everything the numbers say, in the order one asks."""
    return tuple(
        chain(
            _amortisation(run),
            _savings(run),
            _kept(run),
            _curve(run),
            _bench(run),
            _exposure(run),
            _violations(run),
            _rules(run),
        )
    )


def is_exposed(case: CaseResult) -> bool:
    """Whether a mapping of this case outlived its memory."""
    stale = case.stale_window_ns is not None or case.stale_open
    return stale or case.live_after_release > 0 or case.verdict == "exposed"


def unique(items: Iterator[str]) -> list[str]:
    """The items, each once, in the order of their first time."""
    return list(dict.fromkeys(items))


def iommus(run: RunResult) -> list[Iommu]:
    """The IOMMUs of the cases, in their order."""
    return list(dict.fromkeys(case.iommu for case in run.cases))


def stale_text(case: CaseResult) -> str:
    """How long the longest stale mapping of ``case`` lived, in words."""
    if case.stale_window_ns is None:
        left = case.live_after_release or case.stale_open
        return f"for a time that was not seen{' to end' if left else ''}"
    if case.stale_open:
        return f"for more than {duration(case.stale_window_ns)}, and still did when the run ended"
    return f"for {duration(case.stale_window_ns)}"


def _amortisation(run: RunResult) -> Iterator[Finding]:
    strategies: tuple[Strategy, ...] = ("page_pool", "map_per_packet")
    for strategy in strategies:
        cases = [c for c in run.cases if c.strategy == strategy and c.iommu != "none"]
        if not cases:
            continue
        maps = span(case.maps_per_packet for case in cases)
        unmaps = span(case.unmaps_per_packet for case in cases)
        text = f"{strategy} made {maps} maps and {unmaps} unmaps per packet in steady state"
        under = sentence_list(unique(case.iommu for case in cases))
        busy = [c for c in cases if per_packet(c.maps_per_packet + c.unmaps_per_packet) != "0.0000"]
        level: Level = "warn" if strategy == "page_pool" and busy else "info"
        yield Finding("maps per packet", level, f"{text}, seen by the device under {under}.")


def _savings(run: RunResult) -> Iterator[Finding]:
    for iommu in iommus(run):
        parts = []
        for each in run.cases:
            if each.iommu != iommu or each.strategy != "page_pool":
                continue
            other = find_case(run.cases, "map_per_packet", iommu, each.frame_bytes)
            factor = rate_ratio(each, other)
            if other and factor and each.packets_per_second:
                saved = 1e9 / other.packets_per_second - 1e9 / each.packets_per_second
                parts.append(f"{ratio(factor)} at {each.frame_bytes} B ({_per_packet_time(saved)})")
        if parts:
            under = "without an IOMMU" if iommu == "none" else f"under {iommu}"
            text = f"page_pool over map_per_packet {under}: {sentence_list(parts)}."
            yield Finding("what page_pool saves", "info", text)


def _per_packet_time(saved_ns: float) -> str:
    verb = "saves" if saved_ns >= 0 else "costs"
    return f"{verb} {duration(abs(saved_ns))} a packet"


def _kept(run: RunResult) -> Iterator[Finding]:
    strategies: tuple[Strategy, ...] = ("page_pool", "map_per_packet")
    for strategy in strategies:
        parts = []
        for iommu in iommus(run):
            cases = [c for c in run.cases if c.iommu == iommu and c.strategy == strategy]
            shares = [rate_ratio(case, baseline(case, run.cases)) for case in cases]
            known = [100 * share for share in shares if share is not None]
            if known and iommu != "none":
                parts.append(f"{span(known, '{:.0f}')} % under {iommu}")
        if parts:
            text = f"Of the rate of page_pool without an IOMMU, {strategy} keeps "
            yield Finding("what an IOMMU costs", "info", f"{text}{sentence_list(parts)}.")


def curve_pairs(run: RunResult) -> list[tuple[float, CurvePoint | None, CurvePoint | None]]:
    """(latency in us, page_pool, map_per_packet) for every latency, ascending."""
    by_key = {(point.latency_us, point.strategy): point for point in run.curve}
    latencies = sorted({point.latency_us for point in run.curve})
    return [
        (us, by_key.get((us, "page_pool")), by_key.get((us, "map_per_packet"))) for us in latencies
    ]


def _curve(run: RunResult) -> Iterator[Finding]:
    pairs = [(us, pool, each) for us, pool, each in curve_pairs(run) if pool and each]
    if not pairs or pairs[-1][0] == 0:
        return
    us, pool, each = pairs[-1]
    text = (
        f"With {latency(us)} more for every map and every unmap ({pool.iommu}), page_pool keeps "
        f"{percent(pool.ratio)} of its rate and map_per_packet {percent(each.ratio)}"
    )
    if each.packets_per_second:
        factor = ratio(pool.packets_per_second / each.packets_per_second)
        rates = f"{significant(pool.packets_per_second / 1000)} against "
        rates += f"{significant(each.packets_per_second / 1000)} kpps"
        text += f": {factor} as many packets, {rates}"
    yield Finding("latency", "info", text + ".")


def _bench(run: RunResult) -> Iterator[Finding]:
    for cell in standings(run).values():
        factor = ratio(cell.factor)
        text = f"{cell.frame_bytes} B, {cell.iommu}: {cell.ours.nic} receives {factor} what "
        level: Level = "good" if cell.factor >= _WANTED_FACTOR else "warn"
        yield Finding("bench", level, f"{text}{cell.rival.nic} does, the best of QEMU's own.")
    for (frame_bytes, iommu), kept in kept_of_no_iommu(run).items():
        text = f"{frame_bytes} B: dmabed page_pool under {iommu} runs at {percent(kept)} of its "
        yield Finding("bench", "info", text + "rate without an IOMMU.")


def _exposure(run: RunResult) -> Iterator[Finding]:
    closed = []
    for iommu in iommus(run):
        cases = [case for case in run.cases if case.iommu == iommu]
        stale = [case for case in cases if is_exposed(case)]
        if stale:
            yield Finding("exposure", "warn", _exposed_text(iommu, stale))
        elif iommu == "none":
            text = "Without an IOMMU the device reaches all of the guest's memory at any time: "
            yield Finding("exposure", "warn", text + "there is no mapping to go stale.")
        else:
            closed.append(iommu)
    if closed:
        text = f"Under {sentence_list(closed)} no mapping outlived its memory: none was live once "
        yield Finding("exposure", "good", text + "the guest had given everything back.")


def _exposed_text(iommu: str, stale: list[CaseResult]) -> str:
    worst = max(stale, key=lambda case: (case.stale_open, case.stale_window_ns or 0))
    live = max(case.live_after_release for case in stale)
    if live:
        text = f"Under {iommu} up to {plural(live, 'mapping')} stayed live after the guest had "
        text += "given all memory back"
    else:
        text = f"Under {iommu} mappings outlived their memory"
    if (most := max(case.stale_at_once for case in stale)) > live:
        text += f"; at least {most} were stale at once"
    which = f"{worst.strategy}, {worst.frame_bytes} B"
    return f"{text}; the longest lived on {stale_text(worst)} ({which})."


def _violations(run: RunResult) -> Iterator[Finding]:
    for case in run.cases:
        if case.violations:
            more = len(case.violations) - 1
            rest = f" (and {more} more)" if more else ""
            text = f"{case.case}: {case.violations[0]}{rest}"
            yield Finding("violations", "bad", text)
        elif case.verdict == "violated":
            yield Finding("violations", "bad", f"{case.case}: a rule was violated; see the events.")
    if run.cases and not any(c.violations or c.verdict == "violated" for c in run.cases):
        yield Finding(
            "violations", "good", f"No rule was violated in {plural(len(run.cases), 'case')}."
        )


def _rules(run: RunResult) -> Iterator[Finding]:
    if text := rules_sentence(run):
        yield Finding("rules", "info", text)
