# SPDX-License-Identifier: MIT
"""Allocations of a guest's kernel that fail by order, in one module's call chains only.

By the kernel's own fault injection (Documentation/fault-injection of Linux): failslab and
fail_page_alloc, confined by the stack to code of the module, once by number (``fail-nth`` of a
task: the n-th allocation fails) and once by chance, in interrupts as well.
:func:`vm.checkers.can_fail` says whether a kernel has all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vm.errors import VmError
from vm.guest import Guest

_DEBUGFS = "/sys/kernel/debug"
_KINDS = ("failslab", "fail_page_alloc")
#: Each failure takes one off; there are never so many.
_TIMES = 1_000_000_000
#: Entries of the stack that are searched for the module: the most there can be.
_DEPTH = 32
_SYMBOL = re.compile(r"^([0-9a-f]+) [tT] ", re.M)
_PAGE = 4096
#: Seconds for one sweep on a stock kernel's scale.
_SWEEP_S = 120.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """What came of failing allocations of a command, one in each run.

    failures: allocations that failed, one in each run of the command. refused: runs that ended
    with an error; the others did without. ended: a last run had nothing left to fail, and did
    what it was asked to.
    """

    failures: int
    refused: int
    ended: bool


class FailingAllocations:
    """Fault injection in ``guest``, for allocations that have code of ``module`` on the stack."""

    def __init__(self, guest: Guest, module: str) -> None:
        self._guest, self._module = guest, module

    async def confine(self) -> None:
        """Sets the stack filter; again after the module was loaded anew.

        Raises:
            VmError: the module is not loaded.
        """
        said = await self._guest.run(f"grep '\\[{self._module}\\]' /proc/kallsyms", check=False)
        places = [int(place, 16) for place in _SYMBOL.findall(said.stdout)]
        if not places:
            raise VmError(f"{self._module} is not loaded: there is nothing to confine failures to")
        values = {
            "probability": 0, "interval": 1, "verbose": 0, "task-filter": "N",
            "ignore-gfp-wait": "N", "stacktrace-depth": _DEPTH, "times": _TIMES,
            "require-start": f"{min(places):#x}", "require-end": f"{max(places) + _PAGE:#x}",
        }  # fmt: skip
        lines = [f"echo {value} > {name}" for name, value in values.items()]
        each = "; ".join(f"cd {_DEBUGFS}/{kind}; {'; '.join(lines)}" for kind in _KINDS)
        page = f"cd {_DEBUGFS}/fail_page_alloc; echo 0 > min-order; echo N > ignore-gfp-highmem"
        await self._guest.run(f"set -e; {each}; {page}")

    async def by_chance(self, percent: int) -> None:
        """From now on so many of a hundred allocations fail, in any context; 0: none."""
        lines = "; ".join(f"echo {percent} > {_DEBUGFS}/{kind}/probability" for kind in _KINDS)
        await self._guest.run(lines)

    async def failures(self) -> int:
        """Allocations that failed since :meth:`confine`."""
        said = await self._guest.run(f"cat {self._times()}")
        return sum(_TIMES - int(left) for left in said.stdout.split())

    async def sweep(self, command: str, before: str = "true", most: int = 400) -> Sweep:
        """Runs ``command`` again and again, one of its allocations failing, until none is left.

        The first eight fail in turn, then each ninth of those so far is taken: ``n + 1 + n / 8``.

        command: one program with its arguments, or a builtin of the shell. before: run before it
        each time, undisturbed, in the same shell. most: the last allocation's number.
        """
        script = (
            f"left() {{ cat {self._times()} | tr '\\n' ' '; }}; n=0; runs=0; refused=0; ended=0\n"
            f"while [ $n -lt {most} ]; do n=$((n+1+n/8)); {before}; was=$(left)\n"
            f"( echo $n > /proc/self/fail-nth; exec {command} ) >/dev/null 2>&1; failed=$?\n"
            'if [ "$was" = "$(left)" ]; then ended=$((failed == 0)); break; fi\n'
            "runs=$((runs+1)); refused=$((refused + (failed != 0))); done\n"
            "echo $runs $refused $ended"
        )
        said = await self._guest.run(script, timeout_s=_SWEEP_S)
        runs, refused, ended = map(int, said.stdout.split()[-3:])
        return Sweep(runs, refused, bool(ended))

    @staticmethod
    def _times() -> str:
        return " ".join(f"{_DEBUGFS}/{kind}/times" for kind in _KINDS)
