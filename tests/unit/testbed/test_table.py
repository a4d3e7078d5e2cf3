# SPDX-License-Identifier: MIT
"""The tables hold every figure at every width, and no colour where nobody sees it."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable

import pytest

from testbed.report.table import print_report, report_console, stale_cell
from testbed.report.writer import table_text
from testbed.results import RunResult


def printed(run: RunResult, width: int | None = None) -> list[str]:
    text = io.StringIO()
    print_report(run, report_console(text, width))
    return text.getvalue().splitlines()


def rows(lines: list[str], iommu: str = "") -> list[list[str]]:
    found = [
        line.split() for line in lines if re.match(r" ?(page_pool|map_per_packet) +\S+ ", line)
    ]
    return [row for row in found if iommu in row or not iommu]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_one_row_per_case_and_none_cut_at_any_width(run: RunResult, width: int) -> None:
    lines = printed(run, width)
    assert all(len(line) <= width for line in lines)
    assert not any("…" in line for line in lines)
    table = lines[: next(i for i, line in enumerate(lines) if "Latency curve" in line)]
    assert len([x for x in table if re.search(r"\b(clean|exposed|violated)\s*$", x)]) == 16


def test_even_a_very_narrow_terminal_loses_no_digit(run: RunResult) -> None:
    text = "".join(printed(run, 50))
    assert "…" not in text
    assert all(len(line) <= 50 for line in printed(run, 50))


def test_counts_per_packet_have_four_decimals(with_case: Callable[..., RunResult]) -> None:
    run = with_case(0, maps_per_packet=0.99996, unmaps_per_packet=1 / 3)
    first = rows(printed(run, 160))[0]
    assert first[4:6] == ["1.0000", "0.3333"]
    assert rows(printed(run, 80))[0][2:4] == ["1.0000", "0.3333"]


def test_wide_row_shows_every_figure_in_its_column(run: RunResult) -> None:
    wanted = "map_per_packet virtio-lazy 64 15444 1.0000 1.0000 12.87 0.12x 61.24 58.90 812 1000"
    row = rows(printed(run, 160), "virtio-lazy")[0]
    assert " ".join(row) == f"{wanted} 9.81 ms exposed"


def test_numbers_line_up_on_the_right(run: RunResult) -> None:
    found = [re.search(r"\d\.\d{4} +\d\.\d{4} +\d+\.\d\d ", each) for each in printed(run, 160)]
    ends = [match.end() for match in found if match]
    assert len(ends) == 16
    assert len(set(ends)) == 1


def test_missing_time_is_a_dash(run: RunResult) -> None:
    row = rows(printed(run, 160), "intel-strict")[1]
    assert row[0] == "page_pool"
    assert row[8:10] == ["-", "-"]


@pytest.mark.parametrize(
    ("window", "still_open", "text"),
    [
        (None, False, "-"),
        (None, True, "still open"),
        (9_810_000, False, "9.81 ms"),
        (2_460_000_000, True, "still open > 2.46 s"),
        (0, False, "0 ns"),
    ],
)
def test_stale_window_in_words(
    with_case: Callable[..., RunResult], window: int | None, still_open: bool, text: str
) -> None:
    case = with_case(0, stale_window_ns=window, stale_open=still_open).cases[0]
    assert stale_cell(case) == text


def test_open_window_is_marked_at_80_columns(run: RunResult) -> None:
    assert any("4096 > 2.46 s exposed" in line for line in printed(run, 80))


def test_piped_report_has_no_escape_sequences(run: RunResult) -> None:
    assert "\x1b" not in "\n".join(printed(run))


def test_terminal_report_colours_the_verdict(
    run: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[33mexposed" in "\n".join(printed(run, 160))


def test_report_survives_an_ascii_terminal(run: RunResult) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    print_report(run, report_console(stream, 100))
    stream.flush()
    assert b"page_pool" in raw.getvalue()


def test_markup_in_names_is_printed_as_it_is(with_case: Callable[..., RunResult]) -> None:
    run = with_case(0, violations=("O-3 [red]ring[/red] :smile: [0]",), verdict="violated")
    assert "O-3 [red]ring[/red] :smile: [0]" in table_text(run)


def test_curve_table_divides_the_strategies(run: RunResult) -> None:
    lines = printed(run, 100)
    line = next(line for line in lines if line.strip().startswith("1 ms"))
    assert line.split() == ["1", "ms", "101.40", "0.995", "0.47", "0.063", "218x"]


def test_curve_table_with_one_strategy_has_dashes(run: RunResult) -> None:
    curve = tuple(point for point in run.curve if point.strategy == "page_pool")
    lines = printed(dataclasses.replace(run, cases=(), curve=curve), 100)
    line = next(line for line in lines if line.strip().startswith("10 us"))
    assert line.split()[-3:] == ["-", "-", "-"]


def test_bench_table_has_nics_down_and_iommus_across(bench: RunResult) -> None:
    lines = printed(bench, 100)
    assert ["virtio-net", "86.00", "86.00"] in [line.split() for line in lines]
    assert "ours / best of QEMU's 2.34x 2.34x" in [" ".join(line.split()) for line in lines]


def test_text_file_has_no_trailing_blanks(run: RunResult) -> None:
    assert not re.search(r"[ \t]$", table_text(run), re.MULTILINE)
