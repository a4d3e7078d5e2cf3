# SPDX-License-Identifier: MIT
"""The parts of the README that are measured: written between markers, so that they can be renewed.

A block is what stands between ``<!-- name -->`` and ``<!-- /name -->``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

from testbed.errors import ReportError
from testbed.report.table import curve_table, narrow_case_table, report_console
from testbed.report.units import duration, latency, percent, ratio, span
from testbed.report.verdict import curve_pairs, headline, is_exposed
from testbed.results import CaseResult, RunResult, baseline, find_case, rate_ratio

OUTPUT, DEBATE, TESTS = "run output", "debate", "test output"
#: Columns that a page shows without a scroll bar.
PAGE_WIDTH = 96
_SMALL = 64

_TEST_LINES = re.compile(
    r"^(All checks passed!|Success: .*|\d+ files already .*|=+ .* in .*s.* =+)$"
)


def replace_block(text: str, name: str, body: str, source: Path) -> str:
    """``text`` with ``body`` as the block ``name``; ``source`` names it in errors.

    Raises:
        ReportError: the markers are not there exactly once, in this order.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise ReportError(source, f"must have one {begin.strip()} and one {end} after it")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}{body}{end}{rest.partition(end)[2]}"


def run_output(run: RunResult) -> str:
    """What ``make run`` prints on :data:`PAGE_WIDTH` columns, but for its findings."""
    text = io.StringIO()
    console = report_console(text, PAGE_WIDTH)
    if run.cases:
        console.print(narrow_case_table(run))
    if run.curve:
        console.print(curve_table(run))
    console.print(headline(run).text)
    lines = (line.rstrip() for line in text.getvalue().split("\n"))
    return _fenced("$ make run\n...\n" + "\n".join(lines).strip("\n"))


def suite_output(log: str) -> str:
    """The lines of a log of ``make test`` that say how it ended."""
    lines = [line for line in log.splitlines() if _TEST_LINES.match(line)]
    return _fenced("\n".join(["$ make test", *lines]))


def debate_table(run: RunResult) -> str:
    """A Markdown table: what was claimed, and what this run says to it."""
    rows = "".join(f"| {claim} | {found} |\n" for claim, found in _debate(run))
    return f"| claim of 2016 | here |\n|---|---|\n{rows}"


def _debate(run: RunResult) -> Iterator[tuple[str, str]]:
    watched = [case for case in run.cases if case.iommu != "none"]
    pool = [case for case in watched if case.strategy == "page_pool"]
    each = [case for case in watched if case.strategy == "map_per_packet"]
    if pool and each:
        yield "A pool of mapped pages does away with maps per packet (Brouer)", _maps(pool, each)
        yield "The mapping is what is worth keeping, not the page (Gorman)", _gained(run)
        yield "No IOMMU is the rate to compare with (Cascardo)", _kept(run, pool)
    if found := _slowed(run):
        yield "Where maps are slow, one per packet is out of the question (Cascardo)", found
    if watched:
        yield "Mappings that live longer trade safety for speed (Wilcox)", _exposed(watched)


def _maps(pool: list[CaseResult], each: list[CaseResult]) -> str:
    return (
        f"`page_pool`: {span(case.maps_per_packet for case in pool)} maps a packet in steady state "
        f"under every IOMMU; `map_per_packet`: {span(case.maps_per_packet for case in each)}"
    )


def _gained(run: RunResult) -> str:
    parts = []
    for case in run.cases:
        other = find_case(run.cases, "map_per_packet", case.iommu, case.frame_bytes)
        factor = rate_ratio(case, other)
        if factor and case.strategy == "page_pool" and case.frame_bytes == _SMALL:
            under = "without an IOMMU" if case.iommu == "none" else f"under {case.iommu}"
            parts.append(f"{ratio(factor)} {under}")
    return f"packets per second, `page_pool` over `map_per_packet`, {_SMALL} B: {', '.join(parts)}"


def _slowed(run: RunResult) -> str:
    pairs = [(us, pool, each) for us, pool, each in curve_pairs(run) if us and pool and each]
    if not pairs:
        return ""
    us, pool, each = pairs[-1]
    return (
        f"with {latency(us)} more for each map and each unmap `page_pool` keeps "
        f"{percent(pool.ratio)} of its rate, `map_per_packet` {percent(each.ratio)}"
    )


def _kept(run: RunResult, pool: list[CaseResult]) -> str:
    shares = [rate_ratio(case, baseline(case, run.cases)) for case in pool]
    known = [100 * share for share in shares if share is not None]
    return f"`page_pool` behind an IOMMU runs at {span(known, '{:.0f}')} % of its rate without one"


def _exposed(watched: list[CaseResult]) -> str:
    stale = [case for case in watched if is_exposed(case)]
    clean = list(dict.fromkeys(c.iommu for c in watched if c not in stale))
    if not stale:
        return "no mapping outlived its memory"
    live = max(case.live_after_release for case in stale)
    longest = max(case.stale_window_ns or 0 for case in stale)
    where = ", ".join(dict.fromkeys(case.iommu for case in stale))
    text = f"{where}: up to {live} mappings alive when the guest had given all memory back, for up "
    return f"{text}to {duration(longest)}; {', '.join(clean)}: none"


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```\n"
