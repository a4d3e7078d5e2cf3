# SPDX-License-Identifier: MIT
"""Figures: all there, the same every time, with the data drawn in them."""

from __future__ import annotations

import dataclasses
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from testbed.report.plots import (
    Plot,
    amortisation_figure,
    draw,
    exposure_figure,
    rates_figure,
)
from testbed.report.readme import main, picture
from testbed.report.readme_text import DEBATE, OUTPUT, TESTS
from testbed.report.style import COLOUR, MARKER, figure_style, typeset
from testbed.results import RunResult
from testbed.scenario import RX_MODES, STRATEGIES


def drawn_texts(figure: Figure) -> str:
    figure.canvas.draw()
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return "|".join(found + [text.get_text() for text in figure.texts])


def test_same_results_give_the_same_bytes_whatever_the_users_matplotlibrc(
    run: RunResult, plots: tuple[Plot, ...]
) -> None:
    with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "red"}):
        assert draw(run) == plots


def test_every_figure_is_a_picture_with_content(plots: tuple[Plot, ...]) -> None:
    assert [plot.name for plot in plots] == ["amortisation", "rates", "exposure"]
    for plot in plots:
        pixels = np.asarray(Image.open(io.BytesIO(plot.png)).convert("L"))
        assert min(pixels.shape) > 500
        assert 0.01 < (pixels < 200).mean() < 0.6
        assert ET.fromstring(plot.svg).tag.endswith("svg")


def test_latency_0_has_a_place_on_the_axis(run: RunResult) -> None:
    with figure_style():
        axes = amortisation_figure(run).axes[0]
        ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["0", "10 µs", "50 µs", "200 µs", "1 ms"]
    assert axes.get_xlim()[0] < 0
    assert axes.get_ylabel() == "thousand packets per second (log)"


def test_curve_holds_every_measured_point(run: RunResult) -> None:
    with figure_style():
        axes = amortisation_figure(run).axes[0]
    drawn = {tuple(np.round(line.get_ydata(), 3)) for line in axes.lines}
    assert (101.9, 101.2, 101.7, 100.9, 101.4) in drawn
    assert (7.41, 6.43, 4.24, 1.862, 0.466) in drawn


def test_prediction_is_one_map_and_one_unmap_a_packet(run: RunResult) -> None:
    with figure_style():
        axes = amortisation_figure(run).axes[0]
    model = next(line for line in axes.lines if len(line.get_xdata()) > 10)
    x, y = np.asarray(model.get_xdata()), np.asarray(model.get_ydata())
    assert x[0] == 0
    assert y[0] == pytest.approx(7.41)
    assert y[-1] == pytest.approx(1000 / (1e6 / 7410 + 2000), rel=1e-6)


def test_bars_have_the_height_of_their_case(run: RunResult) -> None:
    with figure_style():
        figure = rates_figure(run)
    heights = {round(patch.get_height(), 2) for patch in figure.axes[0].patches}
    assert heights == {104.1, 101.9, 102.6, 102.2, 101.3, 7.41, 12.87, 6.08}
    assert figure.axes[0].get_ylim()[0] == 0


def test_strategy_of_the_driver_that_was_run_is_not_drawn(run: RunResult) -> None:
    others = [
        dataclasses.replace(case, strategy=mode)
        for case in run.cases
        for mode in RX_MODES
        if case.strategy == "page_pool" and mode not in STRATEGIES
    ]
    more = dataclasses.replace(run, cases=(*run.cases, *others))
    assert set(COLOUR) == set(MARKER) == set(RX_MODES)
    assert len(set(COLOUR.values())) == len(set(MARKER.values())) == len(RX_MODES)
    for before, after in zip(draw(run), draw(more), strict=True):
        assert after.png.startswith(b"\x89PNG")
        if before.name != "amortisation":
            assert after.svg.count(COLOUR["bulk_map"].encode()) > 0, after.name


def test_case_that_was_not_run_is_said_so(run: RunResult) -> None:
    with figure_style():
        figure = rates_figure(dataclasses.replace(run, cases=run.cases[:-1]))
        assert "not run" in drawn_texts(figure)


def test_zero_is_shown_for_strict_modes(run: RunResult) -> None:
    with figure_style():
        figure = exposure_figure(run)
        live, window = figure.axes
        assert [text.get_text() for text in live.texts].count("0") == 8
        assert [text.get_text() for text in window.texts].count("none") == 8
        assert "> 2.46 s" in drawn_texts(figure)
        assert live.get_xlim()[0] <= 0


def test_microseconds_of_a_short_window_are_typeset(with_case: Callable[..., RunResult]) -> None:
    run = with_case(4, stale_window_ns=31_400)
    short = dataclasses.replace(run, cases=run.cases[:8])
    with figure_style():
        assert "31.4 µs" in drawn_texts(exposure_figure(short))


def test_titles_stay_inside_the_picture(run: RunResult) -> None:
    with figure_style():
        for make in (amortisation_figure, rates_figure, exposure_figure):
            figure = make(run)
            figure.canvas.draw()
            for text in figure.texts:
                assert text.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_runs_with_little_data_are_drawn_or_left_out(run: RunResult, count: int) -> None:
    few = dataclasses.replace(run, cases=run.cases[:count], curve=run.curve[:count])
    assert len(draw(few)) == (2 if count else 0)


def test_stalled_case_is_drawn(with_case: Callable[..., RunResult]) -> None:
    run = with_case(0, packets_per_second=0.0, packets=0)
    stalled = tuple(dataclasses.replace(p, packets_per_second=0.0) for p in run.curve)
    assert [plot.name for plot in draw(dataclasses.replace(run, curve=stalled))] == [
        "rates", "exposure",
    ]  # fmt: skip


def test_typeset_touches_numbers_only() -> None:
    assert typeset("virtio us 5 us 2.00x fx") == "virtio us 5 µs 2.00× fx"


def test_readme_picture_is_written_from_a_file(
    run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path
    results = folder / "results.json"
    results.write_text(run.to_json())
    readme = folder / "README.md"
    readme.write_text(
        "".join(f"<!-- {b} -->\nold\n<!-- /{b} -->\n" for b in (OUTPUT, DEBATE, TESTS))
    )
    arguments = [str(results), str(folder / "images"), "--readme", str(readme)]
    assert main(arguments) == 0
    assert sorted(p.name for p in (folder / "images").iterdir()) == ["result.png", "result.svg"]
    assert readme.read_text().count("old") == 1, "without a log the tests' block stays"
    results.write_text("{}")
    assert main(arguments) == 1
    assert "schema: missing" in capsys.readouterr().err


def test_readme_picture_stands_on_paper(run: RunResult) -> None:
    corner = Image.open(io.BytesIO(picture(run).png)).convert("RGBA").getpixel((0, 0))
    assert corner == (255, 255, 255, 255)
