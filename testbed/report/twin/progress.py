# SPDX-License-Identifier: MIT
"""How far the twin is: packets of one run, points of many."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from testbed.report.progress import RunProgress
from testbed.sweep.point import Point
from testbed.twin.result import TwinResult
from testbed.twin.run import run_twin
from testbed.twin.scenario import TwinScenario

_COMPILING = "compiling {}: only the first time"


def run_with_bar(scenario: TwinScenario, console: Console) -> TwinResult:
    """Runs it; on a terminal, with a bar.

    Raises:
        NotApplicableError, TrafficError: see :func:`testbed.twin.run.run_twin`.
    """
    if not console.is_terminal:
        return run_twin(scenario)
    columns = (SpinnerColumn("line"), BarColumn(bar_width=24), TaskProgressColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
    ) as live:
        task = live.add_task(_COMPILING.format(scenario.strategy), total=scenario.packets)
        return run_twin(
            scenario,
            lambda done: live.update(task, completed=done, description=f"{done:,} packets"),
        )


class PointProgress:
    """Counts the points of a sweep as they come; use it as a context manager."""

    def __init__(self, total: int, console: Console) -> None:
        self._progress = RunProgress(total, console)

    def __enter__(self) -> Self:
        """Starts the clock."""
        self._progress.__enter__()
        self._progress.stage("compiling what was not compiled before")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Takes the bar away."""
        self._progress.__exit__(kind, error, trace)

    def tell(self, point: Point) -> None:
        """One more; a failed one stays on the screen."""
        scenario = point.scenario
        name = f"{scenario.strategy}, {scenario.preset}"
        self._progress.done(f"{name}: {point.failure}" if point.failure else "")
        if not point.failure:
            self._progress.stage(name)
