# SPDX-License-Identifier: MIT
"""Progress: lines where there is no terminal, and a time left that follows from the pace."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from testbed.report.progress import RunProgress
from testbed.report.table import report_console


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def test_piped_progress_is_plain_lines() -> None:
    text, clock = io.StringIO(), Clock()
    with RunProgress(4, report_console(text), clock) as progress:
        progress.stage("boot [intel]")
        clock.now_ns = 10_000_000_000
        progress.done("page_pool: 104 kpps")
        clock.now_ns = 70_000_000_000
        progress.done()
        progress.stage("next")
    assert text.getvalue().splitlines() == [
        "[0/4] 0 s                  boot [intel]",
        "[1/4] 10 s, 30 s left      page_pool: 104 kpps",
        "[2/4] 1 min 10 s, 1 min 10 s left next",
    ]


def test_time_left_is_unknown_before_the_first_step_and_zero_after_the_last() -> None:
    clock = Clock()
    progress = RunProgress(2, report_console(io.StringIO()), clock)
    clock.now_ns = 5
    assert progress.eta_ns() is None
    progress.done()
    assert progress.eta_ns() == 5
    progress.done()
    progress.done()
    assert (progress.finished, progress.eta_ns()) == (2, 0)


@pytest.mark.parametrize("terminal", [True, False])
def test_results_of_steps_stay_and_errors_pass_through(terminal: bool) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100)
    with pytest.raises(ValueError, match="boom"), RunProgress(1, console) as progress:
        progress.stage("one")
        progress.done("one took 3 s")
        raise ValueError("boom")
    assert "one took 3 s" in text.getvalue()
    assert progress._live is None
