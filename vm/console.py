# SPDX-License-Identifier: MIT
"""Reads a guest's console output, without I/O: its last lines, a panic, kernel warnings."""

import re
from collections import deque

_KEPT_LINES = 2000
_PANIC_LINES = 100
_MAX_LINE = 4096
_TIMESTAMP = re.compile(r"^\[\s*\d+\.\d+\]\s?(\[[^\]]*\]\s)?")
_PANIC = re.compile(r"Kernel panic - not syncing")
# What opens a kernel splat, and what the kernel says of leaks, hangs and IOMMU faults.
_WARNING_SIGNS = (
    r"WARNING:",
    r"\bBUG:",
    r"kernel BUG",
    r"Oops:",
    r"general protection fault",
    r"unable to handle",
    r"refcount_t",
    r"possible (recursive|circular) locking",
    r"inconsistent lock state",
    r"suspicious RCU",
    r"leaked",
    r"page_pool_release_retry",
    r"stalled pool",
    r"Bad page state",
    r"list_(add|del) corruption",
    r"DMA-API:",
    r"DMAR:.*fault",
    r"virtio_iommu.*fault",
    r"soft lockup",
    r"rcu.*detected.*stall",
    r"blocked for more than",
    r"NETDEV WATCHDOG",
    r"UBSAN:",
    r"KASAN:",
)
_WARNING = re.compile("|".join(_WARNING_SIGNS))
# Said by a healthy boot of the machines used here, although it matches.
_EXPECTED = re.compile(r"DMAR: \[Firmware Bug\]|WARNING: CPU vulnerab")


def strip_timestamp(line: str) -> str:
    """A console line without the kernel's time stamp."""
    return _TIMESTAMP.sub("", line)


def is_panic(line: str) -> bool:
    """True for the line with which a kernel announces its panic."""
    return _PANIC.search(line) is not None


def is_warning(line: str) -> bool:
    """True for the line that opens a kernel splat, or tells of a leak."""
    return _WARNING.search(line) is not None and _EXPECTED.search(line) is None


class ConsoleLog:
    """The lines of a console, fed as raw bytes."""

    def __init__(self) -> None:
        self._partial = b""
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.warnings: list[str] = []
        self.panic: str | None = None

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
        if is_warning(line):
            self.warnings.append(strip_timestamp(line))

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
