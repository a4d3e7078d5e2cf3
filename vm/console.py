# SPDX-License-Identifier: MIT
"""Reads a guest's console output, without I/O: its last lines, a panic, the kernel's splats."""

import re
from collections import deque

from vm.splats import Splat, checker_of

_KEPT_LINES = 2000
_PANIC_LINES = 100
_MAX_LINE = 4096
_TIMESTAMP = re.compile(r"^\[\s*\d+\.\d+\]\s?(\[[^\]]*\]\s)?")
_PANIC = re.compile(r"Kernel panic - not syncing")


def strip_timestamp(line: str) -> str:
    """A console line without the kernel's time stamp."""
    return _TIMESTAMP.sub("", line)


def is_panic(line: str) -> bool:
    """True for the line with which a kernel announces its panic."""
    return _PANIC.search(line) is not None


class ConsoleLog:
    """The lines of a console, fed as raw bytes."""

    def __init__(self) -> None:
        self._partial = b""
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.splats: list[Splat] = []
        self.panic: str | None = None
        self._open: Splat | None = None

    @property
    def warnings(self) -> list[str]:
        """First lines of the kernel's splats, and what it says of leaks, hangs and faults."""
        return [splat.title for splat in self.splats]

    def feed(self, data: bytes) -> None:
        """Takes console output, cut anywhere; an endless line is cut into pieces."""
        *whole, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _MAX_LINE:
            whole.append(self._partial)
            self._partial = b""
        for raw in whole:
            self._add(raw.decode(errors="replace").rstrip("\r"))

    def _add(self, line: str) -> None:
        self._lines.append(line)
        if self.panic is None and is_panic(line):
            self.panic = strip_timestamp(line)
        self._read(strip_timestamp(line))

    def _read(self, line: str) -> None:
        """Takes a line for a new splat, for one more of the last, or for neither."""
        checker = checker_of(line)
        last = self._open
        if checker is not None and not (last is not None and last.is_place_of(line)):
            self._open = Splat(checker, line)
            self.splats.append(self._open)
        elif last is not None and not last.goes_on(line):
            self._open = None

    def last(self, count: int = 20) -> list[str]:
        """The last `count` lines; an unfinished one counts."""
        lines = list(self._lines)
        if self._partial.strip():
            lines.append(self._partial.decode(errors="replace").rstrip("\r"))
        return lines[-count:]

    def excerpt(self) -> list[str]:
        """The lines worth showing: from shortly before a panic on, else the last 20."""
        lines = self.last(_PANIC_LINES)
        found = [index for index, line in enumerate(lines) if is_panic(line)]
        return lines[max(0, found[0] - 5) :] if found else lines[-20:]
