# SPDX-License-Identifier: MIT
"""The README's picture from a run's results: the amortisation curve over what stays exposed.

``python -m testbed.report.readme RESULTS.json [FOLDER]`` writes FOLDER/result.png and result.svg;
FOLDER is docs/images by default.
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


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when both files were written, 1 with the error on standard error."""
    parser = argparse.ArgumentParser(prog="python -m testbed.report.readme", description=__doc__)
    parser.add_argument("results", type=Path, help="results.json of a run")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images"))
    options = parser.parse_args(arguments)
    try:
        plot = picture(RunResult.load(options.results))
        options.folder.mkdir(parents=True, exist_ok=True)
        for suffix, data in (("png", plot.png), ("svg", plot.svg)):
            write_atomically(options.folder / f"{plot.name}.{suffix}", data)
    except (DmabedError, OSError) as error:
        print(f"readme: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
