# SPDX-License-Identifier: MIT
"""What the README shows of a run: a picture, the tables, and what they say to the debate.

``python -m testbed.report.readme RESULTS.json`` draws docs/images/result.png and .svg, the
amortisation curve over what stays exposed, and renews the blocks of README.md between markers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

from emulator.errors import DmabedError
from testbed.errors import ReportError
from testbed.report.exposure_plot import draw_exposure
from testbed.report.plots import Plot, conditions, draw_amortisation, render
from testbed.report.readme_text import (
    DEBATE,
    OUTPUT,
    TESTS,
    debate_table,
    replace_block,
    run_output,
    suite_output,
)
from testbed.report.style import figure_style, strategy_key, titled_figure
from testbed.report.titles import curve_title, exposure_title
from testbed.report.writer import write_atomically
from testbed.results import RunResult


def picture(run: RunResult) -> Plot:
    """Cost on top, exposure below; opaque, so that it can be read on any page.

    Raises:
        ReportError: the run has no latency curve, or no case behind an IOMMU.
    """
    watched = {(c.iommu, c.frame_bytes) for c in run.cases if c.iommu != "none"}
    if not watched or not any(point.packets_per_second > 0 for point in run.curve):
        raise ReportError(Path("results"), "no latency curve or no IOMMU case; use `make run`")
    with figure_style():
        figure = _figure(run, len(watched))
        return render("result", f"{curve_title(run)}. {exposure_title(run)}.", figure, opaque=True)


def _figure(run: RunResult, rows: int) -> Figure:
    names = ", ".join(dict.fromkeys(point.iommu for point in run.curve))
    subtitle = f"Top: received packets per second, {names}. Bottom: what the device could still "
    subtitle += f"reach after the guest had given all memory back. {conditions(run)}."
    below = 1.1 + 0.36 * rows
    figure = titled_figure(7.6, 5.0 + below, curve_title(run), subtitle)
    grid = figure.add_gridspec(2, 2, height_ratios=[3.6, below])
    draw_amortisation(figure.add_subplot(grid[0, :]), run)
    live = figure.add_subplot(grid[1, 0])
    window = figure.add_subplot(grid[1, 1], sharey=live)
    window.tick_params(labelleft=False)
    draw_exposure(live, window, run)
    strategy_key(live)
    return figure


def renewed(text: str, source: Path, run: RunResult, test_log: str | None) -> str:
    """The text of the README ``source`` with its measured blocks written anew.

    Raises:
        ReportError: a block's markers are missing.
    """
    text = replace_block(text, OUTPUT, run_output(run), source)
    text = replace_block(text, DEBATE, debate_table(run), source)
    return text if test_log is None else replace_block(text, TESTS, suite_output(test_log), source)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when all was written, 1 with the error on standard error."""
    parser = argparse.ArgumentParser(prog="python -m testbed.report.readme", description=__doc__)
    parser.add_argument("results", type=Path, help="results.json of a run")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("docs/images"), help="for the picture"
    )
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--tests", type=Path, help="a log of `make test`, for its block")
    options = parser.parse_args(arguments)
    try:
        run = RunResult.load(options.results)
        plot = picture(run)
        log = options.tests.read_text() if options.tests else None
        readme = renewed(options.readme.read_text(), options.readme, run, log)
        options.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(options.readme, readme.encode())
        for suffix, data in (("png", plot.png), ("svg", plot.svg)):
            write_atomically(options.folder / f"{plot.name}.{suffix}", data)
    except (DmabedError, OSError) as error:
        print(f"readme: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
