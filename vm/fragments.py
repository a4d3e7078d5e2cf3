# SPDX-License-Identifier: MIT
"""Whether a kernel's configuration has what was asked for: ``python -m vm.fragments <build tree>``.

merge_config.sh and kconfig drop what a configuration's other choices rule out, at most with a line
in passing; a checker that is not there finds nothing. The fragments are in vm/config: what the
kernel of a guest needs, and what makes it a debugging one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from vm.checkers import CHECKERS, FAILURES, POOL_STATS, STACK_FILTER

FOLDER = Path(__file__).parent / "config"
GUEST, DEBUG = FOLDER / "guest.config", FOLDER / "debug.config"
_LINE = re.compile(r"^(?:(CONFIG_\w+)=(\S+)|# (CONFIG_\w+) is not set)$", re.M)
_LOST = {
    **{option: f"checker {name}, rule O-20" for name, option in CHECKERS.items()},
    **dict.fromkeys((*FAILURES, STACK_FILTER), "allocations that fail by order, fault X-57"),
    POOL_STATS: "pages that are nobody's, rule O-8",
}


def options(text: str) -> dict[str, str]:
    """Option to value in a fragment or a ``.config``; ``n`` for one that is not set."""
    found = _LINE.findall(text)
    return {name or unset: value or "n" for name, value, unset in found}


def lacking(fragment: str, config: str) -> list[str]:
    """A line for each option of ``fragment`` that ``config`` does not have as asked for."""
    has = options(config)
    wrong = {
        name: (value, has.get(name, "n"))
        for name, value in options(fragment).items()
        if has.get(name, "n") != value
    }
    return [_line(name, asked, found, name in has) for name, (asked, found) in wrong.items()]


def _line(name: str, asked: str, found: str, known: bool) -> str:
    lost = f"; without it: no {_LOST[name]}" if name in _LOST else ""
    cure = "" if known else " (depends on what is off, or this kernel has no such option)"
    return f"{name} is {found}, not {asked}{cure}{lost}"


def main(arguments: list[str]) -> int:
    """Compares a build tree with both fragments; 1 if it lacks something of the first or second."""
    if len(arguments) != 1 or not (config := Path(arguments[0]) / ".config").is_file():
        print("usage: python -m vm.fragments <kernel build tree with a .config>")
        return 2
    text, bad = config.read_text(errors="replace"), False
    for fragment in (GUEST, DEBUG):
        problems = lacking(fragment.read_text(), text)
        bad = bad or bool(problems)
        print(f"{fragment.name}: {'all of it is in effect' if not problems else ''}".rstrip())
        print("".join(f"  {problem}\n" for problem in problems), end="")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
