# SPDX-License-Identifier: MIT
"""How long the host made processes wait for a processor: not the fault of whoever is timed in them.

On a busy host a guest's seconds are mostly the host's. Linux counts, for each thread, the time
it was ready to run and did not (proc(5), schedstat; Documentation/scheduler/sched-stats.rst).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class HostWait:
    """Counts from its making on; ``pids``: of the processes that wait for each other."""

    def __init__(self, pids: Iterable[int], proc: Path = Path("/proc")) -> None:
        self._folders = [proc / str(pid) / "task" for pid in pids]
        self._before = self._waits()

    @property
    def ns(self) -> int:
        """Waited for since, in ns, summed over threads; 0 where the host does not count it."""
        before = self._before
        return sum(max(ns - before.get(task, 0), 0) for task, ns in self._waits().items())

    def _waits(self) -> dict[str, int]:
        found = {}
        for folder in self._folders:
            for file in folder.glob("*/schedstat"):
                try:
                    found[file.parent.name] = int(file.read_text().split()[1])
                except (OSError, ValueError, IndexError):
                    continue  # the thread has ended, or the kernel counts nothing
        return found
