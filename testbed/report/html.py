# SPDX-License-Identifier: MIT
"""report.html: the whole report in one file that opens without a network.

Styles and figures stand inside the file; the only links are to its siblings in the same folder.
Everything that comes from a run is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from testbed.report.plots import Plot
from testbed.report.rivals import bench_cells, standings
from testbed.report.rules import rule_rows
from testbed.report.style import typeset
from testbed.report.svg import inline_svg
from testbed.report.table import stale_cell
from testbed.report.units import MISSING, latency, per_packet, ratio
from testbed.report.verdict import curve_pairs, findings, headline
from testbed.results import CaseResult, CurvePoint, RunResult, baseline, rate_ratio

_TEMPLATES = Path(__file__).parent / "templates"

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """A table ready to be written: ``text_columns`` columns of words, then numbers."""

    title: str
    note: str
    heads: Row
    rows: tuple[Row, ...]
    text_columns: int


def render_html(run: RunResult, plots: Sequence[Plot], siblings: Sequence[str] = ()) -> str:
    """The text of report.html; ``siblings`` are names of files in the same folder."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = [(p, Markup(inline_svg(p.svg, p.name, p.alt))) for p in plots]
    style = Markup((_TEMPLATES / "report.css").read_text())
    return environment.get_template("report.html.j2").render(
        run=run,
        style=style,
        headline=headline(run),
        findings=findings(run),
        figures=figures,
        tables=list(_tables(run)),
        violations=[(str(c.case), text) for c in run.cases for text in c.violations],
        notes=[*run.notes, *(f"{c.case}: {note}" for c in run.cases for note in c.notes)],
        facts=_facts(run),
        siblings=siblings,
        typeset=typeset,
    )


def _tables(run: RunResult) -> list[HtmlTable]:
    tables = []
    if run.cases:
        tables.append(_case_table(run))
    if run.curve:
        tables.append(_curve_table(run))
    if run.bench:
        tables.append(_bench_table(run))
    if run.judged:
        tables.append(_rules_table(run))
    return tables


def _rules_table(run: RunResult) -> HtmlTable:
    heads = ("rule", "what must hold", "judged in full", "not judged, and why")
    boots = ", ".join(boot.boot for boot in run.judged)
    note = (
        f"Boots: {boots}. A rule that lacks what it judges by is silent, whatever happens: that is "
        "no verdict. docs/architecture.md says what each needs."
    )
    return HtmlTable("Rules", note, heads, rule_rows(run), text_columns=4)


def _case_table(run: RunResult) -> HtmlTable:
    heads = (
        *(
            "IOMMU",
            "strategy",
            "verdict",
            "frame, B",
            "packets",
            "maps per packet",
            "unmaps per packet",
        ),
        *("kpps", "vs pool, no IOMMU", "map, µs (median)", "unmap, µs (median)"),
        *("live after release", "stale at once", "longest stale window"),
    )
    note = "Maps and unmaps as the device saw them; rates and times by the guest's own clock."
    rows = tuple(_case_row(case, run) for case in run.cases)
    return HtmlTable("Cases", note, heads, rows, text_columns=3)


def _case_row(case: CaseResult, run: RunResult) -> Row:
    share = rate_ratio(case, baseline(case, run.cases))
    return (
        *(case.iommu, case.strategy, case.verdict, str(case.frame_bytes), f"{case.packets:,}"),
        *(per_packet(case.maps_per_packet), per_packet(case.unmaps_per_packet)),
        f"{case.packets_per_second / 1000:.2f}",
        MISSING if share is None else typeset(ratio(share)),
        _time(case.map_ns, case.map_p50_ns),
        _time(case.unmap_ns, case.unmap_p50_ns),
        f"{case.live_after_release:,}",
        f"{case.stale_at_once:,}",
        typeset(stale_cell(case).replace("still open ", "open ")),
    )


def _time(mean_ns: float | None, median_ns: float | None) -> str:
    if mean_ns is None:
        return MISSING
    return f"{mean_ns / 1000:.2f}" + ("" if median_ns is None else f" ({median_ns / 1000:.2f})")


def _curve_table(run: RunResult) -> HtmlTable:
    heads = (
        *("latency added", "page_pool, kpps", "of its rate at 0"),
        *("map_per_packet, kpps", "of its rate at 0", "page_pool / map_per_packet"),
    )
    rows = []
    for us, pool, each in curve_pairs(run):
        quotient = MISSING
        if pool and each and each.packets_per_second:
            quotient = typeset(ratio(pool.packets_per_second / each.packets_per_second))
        rows.append((typeset(latency(us)), *_point(pool), *_point(each), quotient))
    note = "The same traffic while the reply to every map and every unmap is delayed: "
    note += ", ".join(dict.fromkeys(point.iommu for point in run.curve)) + "."
    return HtmlTable("Latency curve", note, heads, tuple(rows), text_columns=0)


def _point(point: CurvePoint | None) -> Row:
    if point is None:
        return MISSING, MISSING
    return f"{point.packets_per_second / 1000:.2f}", f"{point.ratio:.3f}"


def _bench_table(run: RunResult) -> HtmlTable:
    cells = bench_cells(run)
    heads = ("NIC", *(f"{iommu}, {frame_bytes} B" for frame_bytes, iommu in cells))
    rates = {(r.nic, r.frame_bytes, r.iommu): r.packets_per_second for r in run.bench}
    rows = []
    for nic in dict.fromkeys(row.nic for row in run.bench):
        found = [rates.get((nic, *cell)) for cell in cells]
        rows.append((nic, *(MISSING if r is None else f"{r / 1000:.2f}" for r in found)))
    factors = [standings(run).get(cell) for cell in cells]
    last = (MISSING if f is None else typeset(ratio(f.factor)) for f in factors)
    rows.append(("ours / best of QEMU's", *last))
    note = "Thousand packets per second, median; compare within this run only."
    return HtmlTable("Bench", note, heads, tuple(rows), text_columns=1)


def _facts(run: RunResult) -> list[tuple[str, str]]:
    accel = {"kvm": "KVM", "tcg": "software emulation (TCG)"}[run.host.accel]
    facts = [
        ("taken", run.created),
        ("scenario", run.scenario),
        ("seed", str(run.seed)),
        ("acceleration", accel),
        ("host", f"{run.host.cpu_count} CPUs, {run.host.cpu_model}".rstrip(", ")),
        ("system", run.host.system),
        ("QEMU", run.qemu_version),
        ("guest kernel", run.kernel_release),
    ]
    return [(name, value) for name, value in facts if value]
