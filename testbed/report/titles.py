# SPDX-License-Identifier: MIT
"""The findings that stand above the figures, computed like the verdict's sentences."""

from __future__ import annotations

from testbed.report.units import latency, plural, ratio, sentence_list, span
from testbed.report.verdict import curve_pairs, is_exposed, unique
from testbed.results import RunResult, baseline, rate_ratio
from testbed.scenario import Strategy


def curve_title(run: RunResult) -> str:
    """What the longest latency leaves of each strategy's rate."""
    pairs = [(us, pool, each) for us, pool, each in curve_pairs(run) if pool and each]
    if not pairs or pairs[-1][0] == 0:
        return "Packets per second against the latency of a map and of an unmap"
    us, pool, each = pairs[-1]
    if not each.packets_per_second:
        return f"At {latency(us)} more per map and per unmap, map_per_packet receives nothing"
    times = ratio(pool.packets_per_second / each.packets_per_second)
    return (
        f"At {latency(us)} more per map and per unmap, page_pool receives {times} "
        "what map_per_packet does"
    )


def rates_title(run: RunResult) -> str:
    """How much of the rate without an IOMMU each strategy keeps behind one."""
    pool, each = _kept(run, "page_pool"), _kept(run, "map_per_packet")
    if pool and each:
        text = f"Behind an IOMMU page_pool keeps {pool} % of its rate without one"
        return f"{text}, map_per_packet {each} %"
    ratios = []
    for case in run.cases:
        share = rate_ratio(case, baseline(case, run.cases))
        if share is not None and case.strategy == "map_per_packet":
            ratios.append(share)
    return f"map_per_packet against page_pool: {ratio(min(ratios))}" if ratios else "Packet rates"


def _kept(run: RunResult, strategy: Strategy) -> str:
    cases = [c for c in run.cases if c.strategy == strategy and c.iommu != "none"]
    shares = [rate_ratio(case, baseline(case, run.cases)) for case in cases]
    known = [100 * share for share in shares if share is not None]
    return span(known, "{:.0f}") if known else ""


def exposure_title(run: RunResult) -> str:
    """Which IOMMUs left how many mappings alive."""
    watched = [case for case in run.cases if case.iommu != "none"]
    stale = [case for case in watched if is_exposed(case)]
    if not stale:
        return "No mapping outlived its memory"
    where = unique(case.iommu for case in stale)
    verb = "leaves" if len(where) == 1 else "leave"
    live = max(case.live_after_release for case in stale)
    what = f"up to {plural(live, 'mapping')} alive" if live else "mappings alive for a while"
    text = f"{sentence_list(where)} {verb} {what} to memory already given back"
    clean = [name for name in unique(case.iommu for case in watched) if name not in where]
    return f"{text}; {sentence_list(clean)} none" if clean else text
