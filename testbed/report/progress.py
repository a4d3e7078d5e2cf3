# SPDX-License-Identifier: MIT
"""Shows how far a run is: a live bar on a terminal, one line per event anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from testbed.report.table import report_console


class RunProgress:
    """A counter of ``total`` steps, the stage at hand, the time gone and the time left.

    Use it as a context manager: ``stage`` says what begins, ``done`` that a step has ended. The
    time left is that of the steps done so far, spread over those to come. ``clock_ns`` is
    injectable for tests.
    """

    def __init__(
        self,
        total: int,
        console: Console | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.total = max(total, 0)
        self.finished = 0
        self._console = console or report_console()
        self._clock_ns = clock_ns
        self._start_ns = clock_ns()
        self._live: Progress | None = None

    def __enter__(self) -> Self:
        """Starts the clock and, on a terminal, the bar."""
        self._start_ns = self._clock_ns()
        if self._console.is_terminal:
            self._live = Progress(
                SpinnerColumn("line"),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                transient=True,
            )
            self._live.add_task("", total=self.total, left="")
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Takes the bar away; what was said stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def stage(self, text: str) -> None:
        """Says what begins now, ``boot intel-strict`` for example."""
        if self._live is None:
            self._say(text)
        else:
            self._update(description=text)

    def done(self, text: str = "") -> None:
        """Counts one step; ``text``, if given, stays on the screen as its result."""
        self.finished = min(self.finished + 1, self.total)
        self._update()
        if text:
            self._say(text)

    def note(self, text: str) -> None:
        """Says something that stays on the screen and is no step."""
        self._say(text)

    def eta_ns(self) -> int | None:
        """Nanoseconds left, from the pace so far; None before the first step has ended."""
        if not self.finished:
            return None
        gone = self._clock_ns() - self._start_ns
        return gone * (self.total - self.finished) // self.finished

    def _times(self) -> str:
        gone = _clock(self._clock_ns() - self._start_ns)
        return ", ".join(part for part in (gone, self._left()) if part)

    def _left(self) -> str:
        left = self.eta_ns()
        return f"{_clock(left)} left" if left else ""

    def _update(self, description: str | None = None) -> None:
        if self._live is not None:
            task = self._live.task_ids[0]
            self._live.update(
                task, description=description, completed=self.finished, left=self._left()
            )

    def _say(self, text: str) -> None:
        width = len(str(self.total))
        head = f"[{self.finished:{width}}/{self.total}] {self._times():<20}"
        console = self._live.console if self._live is not None else self._console
        console.print(f"{head} {text}", markup=False, highlight=False, soft_wrap=True)


def _clock(ns: int) -> str:
    """``8 s`` or ``1 min 5 s``: whole seconds are enough here."""
    seconds = ns // 1_000_000_000
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min {seconds % 60} s"
