# SPDX-License-Identifier: MIT
"""What the checkers of a guest's kernel say in files of their own, beside the console.

A checker that has given up (lockdep after its first report or one of KASAN, DMA-API debugging out
of entries) says nothing any more: that is told as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vm.checkers import checkers_of
from vm.guest import Guest
from vm.splats import is_kernels_own

_DEBUGFS = "/sys/kernel/debug"
_PREPARE = f"echo 1 > {_DEBUGFS}/dma-api/all_errors"
_READ = (
    f"cd {_DEBUGFS}; for f in error_count disabled; do"
    " [ -e dma-api/$f ] && echo dma-api/$f: $(cat dma-api/$f); done;"
    " grep debug_locks: /proc/lockdep_stats 2>/dev/null; true"
)
_SCAN = (
    f"cd {_DEBUGFS}; [ ! -e kmemleak ] || {{ echo scan > kmemleak; echo scan > kmemleak;"
    " cat kmemleak; echo clear > kmemleak; }"
)
#: A function, or where it was if its module is gone.
_LEAK_FRAME = re.compile(r"^ +(?:\[<\w+>\] )?(?:([\w.]+)\+0x\S+|(0x[0-9a-f]+))", re.M)
_VALUE = re.compile(r"^\s*(\S+):\s+(\S+)$", re.M)


async def prepare_checkers(guest: Guest) -> None:
    """Has the DMA API's checker report every error, not only the first."""
    if "dma-api" in checkers_of(guest.artifacts.kernel):
        await guest.run(_PREPARE)


async def read_checkers(guest: Guest, leaks: bool = False) -> dict[str, tuple[str, ...]]:
    """Checker to its complaints beyond the console's, possibly none, of those that have files.

    leaks: also has kmemleak look for objects that nobody points to, which takes seconds.
    """
    said = await guest.run(_READ)
    excused = [s for s in guest.console.splats if s.checker == "dma-api" and is_kernels_own(s)]
    found = judge_files(dict(_VALUE.findall(said.stdout)), len(excused))
    if leaks:
        report = await guest.run(_SCAN, timeout_s=120)
        found["kmemleak"] = leaked(report.stdout)
    return found


def judge_files(values: Mapping[str, str], excused: int = 0) -> dict[str, tuple[str, ...]]:
    """What the values of the checkers' own files say, by file name.

    excused: errors of DMA-API debugging that the console showed to be nobody's.
    """
    found: dict[str, tuple[str, ...]] = {}
    if "dma-api/error_count" in values:
        count = int(values["dma-api/error_count"]) - excused
        said = [f"error_count is {count}"] if count > 0 else []
        if values.get("dma-api/disabled") == "Y":
            said.append("gave up: out of entries (raise dma_debug_entries= on the command line)")
        found["dma-api"] = tuple(said)
    if "debug_locks" in values:
        off = "gave up: lockdep is off, after a report of its own or of KASAN"
        found["lockdep"] = (off,) if values["debug_locks"] == "0" else ()
    return found


def leaked(report: str) -> tuple[str, ...]:
    """A line for each object in debugfs' ``kmemleak``, with the functions that made it."""
    found = []
    for block in re.split(r"^(?=unreferenced object)", report, flags=re.M):
        head = re.match(r"unreferenced object \S+ \((size \d+)\)", block)
        if head is not None:
            frames = [name or place for name, place in _LEAK_FRAME.findall(block)]
            found.append(f"unreferenced object ({head[1]}) from {' < '.join(frames[:6])}")
    return tuple(found)
