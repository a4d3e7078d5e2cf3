# SPDX-License-Identifier: MIT
"""What a comparison runs, keeps and shows."""

import csv
import io
import json
import math
import re
from dataclasses import replace

import pytest

from testbed.comparison import (
    BURST,
    PUBLISHED_PRESETS,
    Comparison,
    amortisation_of,
    grid_of,
    queues_of,
)
from testbed.errors import ResultsError
from testbed.report.table import report_console
from testbed.report.twin.findings import findings_of
from testbed.report.twin.rows import budget_lines, csv_text, data_size, magnitude
from testbed.report.twin.table import points_table, print_parts, run_parts
from testbed.report.twin.writer import table_text, write_comparison
from testbed.sweep.point import Point
from testbed.twin.scenario import STRATEGY_NAMES, load_twin
from tests.unit.twin.results import point, result, scenario


def comparison():
    base = load_twin("line")
    grid = [
        point("page_pool", "passthrough", 75.5, 3.4e6),
        point("page_pool", "vtd-strict", 82.25, 873.7),
        point("map_per_packet", "vtd-strict", 7757.0, 0.0),
        Point(scenario("direct_window", "vtd-strict"), not_applicable="<no> window & none"),
        Point(scenario("mempool", "vtd-strict"), failure="OSError: disk"),
    ]
    queues = [
        Point(each, result(each.strategy, each.preset, pps=1e6 * each.driver.queues))
        for each in queues_of(base, (1, 2))
    ]
    curve = [
        Point(each, result(each.strategy, each.preset, 100 + 30 * i, maps_per_packet=1 / (i + 1)))
        for i, each in enumerate(amortisation_of(base))
    ]
    return Comparison(
        "2026-01-01", "dmabed compare", base, tuple(grid), tuple(queues), tuple(curve)
    )


def text_of(parts, width=200):
    out = io.StringIO()
    print_parts(parts, report_console(out, width))
    return out.getvalue()


def test_the_grid_is_every_strategy_under_every_preset():
    pairs = {(s.strategy, s.preset) for s in grid_of(load_twin("line"))}
    assert len(pairs) == len(STRATEGY_NAMES) * len(PUBLISHED_PRESETS) == 16 * 9


def test_the_curve_shares_a_mapping_among_powers_of_two_of_packets():
    pools = [s for s in amortisation_of(load_twin("line")) if s.strategy == "page_pool"]
    missing = [BURST - s.driver.pool_size for s in pools]
    shared = {BURST / each if each else math.inf for each in missing}
    assert shared == {2, 4, 8, 16, 32, 64, 128, 256, math.inf}


def test_a_comparison_comes_back_from_json_as_it_was():
    found = comparison()
    assert Comparison.from_json(found.to_json()) == found


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "dmabed.results/1"}'])
def test_what_is_no_comparison_is_refused(text):
    with pytest.raises(ResultsError):
        Comparison.from_json(text)


def test_a_point_with_two_outcomes_is_refused():
    tree = json.loads(comparison().to_json())
    tree["grid"][0]["not_applicable"] = "and yet it ran"
    with pytest.raises(ResultsError, match="exactly one"):
        Comparison.from_json(json.dumps(tree))


def test_csv_has_every_point_and_the_same_floats():
    found = comparison()
    rows = list(csv.DictReader(io.StringIO(csv_text(found.grid))))
    assert [row["status"] for row in rows] == ["done"] * 3 + ["not applicable", "failed"]
    assert float(rows[1]["cycles_per_packet"]) == found.grid[1].result.cycles_per_packet
    assert float(rows[1]["exposure.held by the stack"]) == 873.7
    assert rows[3]["why"] == "<no> window & none"
    queues = list(csv.DictReader(io.StringIO(csv_text(found.queues, ("driver.queues",)))))
    assert [row["driver.queues"] for row in queues][:2] == ["1", "2"]


def test_budgets_are_those_of_64_byte_frames_at_each_line():
    lines = {gbps: round(budget, 1) for gbps, budget, _ in budget_lines(result(), 10)}
    assert lines == {10: 201.6, 25: 80.6, 40: 50.4, 100: 20.2, 200: 10.1, 400: 5.0}
    assert budget_lines(result(cycles=100.8), 10)[0][2] == 0.5


def test_tables_say_what_does_not_apply_and_what_failed():
    text = text_of([points_table(comparison().grid)])
    assert "not applicable: <no> window & none" in text
    assert "OSError: disk" in text
    assert "82.2" in text and "41 %" in text and "874" in text


def test_one_run_shows_cycles_lines_counts_and_violations():
    broken = result(violations={"O-2": 17}, first_violations=["O-2 nic0: somebody else's"])
    text = text_of(run_parts(scenario(), broken), 100)
    for wanted in ("invalidation", "201.6", "400", "5.0", "0.2500", "O-2 x17", "somebody else's"):
        assert wanted in text
    assert "No rule was violated" in text_of(run_parts(scenario(), result()), 100)


def test_a_table_for_a_file_has_no_blanks_at_the_ends():
    text = table_text(comparison().grid)
    assert text.endswith("\n") and not re.search(r" \n", text)


def test_findings_take_their_numbers_from_the_points():
    texts = " ".join(finding.text for finding in findings_of(comparison()))
    assert "94.31x under vtd-strict" in texts
    assert "Nothing is exposed by map_per_packet under vtd-strict." in texts
    broken = comparison()
    bad = replace(broken.grid[1].result, violations={"O-2": 4})
    broken = replace(broken, grid=(replace(broken.grid[1], result=bad),))
    assert any(f.level == "bad" and "O-2 x4" in f.text for f in findings_of(broken))


def test_the_page_is_one_file_that_needs_no_network(tmp_path):
    page = write_comparison(comparison(), tmp_path)
    text = page.read_text()
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", text)
    assert text.count("<svg") == 4 and "&lt;no&gt; window &amp; none" in text
    for link in re.findall(r'href="([^"#][^"]*)"', text):
        assert link.startswith("data:") or (tmp_path / link).is_file(), link
    assert Comparison.load(tmp_path / "comparison.json") == comparison()
    for name in ("frontier", "cycles", "amortisation", "queues"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_comparison_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_comparison(comparison(), tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (873.7, "874"), (999.6, "1 k"), (4183.7, "4.18 k"), (1.7e7, "17 M")],
)
def test_magnitudes_keep_three_digits(value, text):
    assert magnitude(value) == text


def test_sizes_are_powers_of_two():
    assert [data_size(n) for n in (100, 2048, 3 << 20)] == ["100 B", "2 KiB", "3 MiB"]
