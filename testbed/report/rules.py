# SPDX-License-Identifier: MIT
"""Which rules were judged in a run, and why not where they were not: for the report and a sentence.

A rule that lacks its signal is silent whatever happens; the report says so instead of letting it
pass for a rule that was kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.report.units import plural, sentence_list
from testbed.results import Judgement, RunResult

Row = tuple[str, str, str, str]


def rule_rows(run: RunResult) -> tuple[Row, ...]:
    """Rule, what must hold, the boots in which all of it was judged, and what was not and why."""
    rows = []
    for number, title in _titles(run).items():
        whole = [boot.boot for boot in run.judged if number not in _whys(boot)]
        rows.append((number, title, _places(whole, run), "; ".join(_reasons(run, number)) or "-"))
    return tuple(rows)


def rules_sentence(run: RunResult) -> str:
    """How many rules were judged everywhere, and the others by name; empty: nothing was judged."""
    titles = _titles(run)
    if not titles:
        return ""
    silent = {number: any(number in _whys(boot) for boot in run.judged) for number in titles}
    left = [number for number, is_silent in silent.items() if is_silent]
    text = f"{len(titles) - len(left)} of {plural(len(titles), 'rule')} were judged in full in "
    text += f"{'each of ' if len(run.judged) > 1 else ''}{plural(len(run.judged), 'boot')}"
    if left:
        text += f"; {sentence_list(left)} not, or in part, or not everywhere: see the rules' table"
    return text + "."


def _titles(run: RunResult) -> dict[str, str]:
    return {rule.number: rule.title for boot in run.judged for rule in boot.rules}


def _whys(boot: Judgement) -> dict[str, tuple[str, ...]]:
    return {rule.number: rule.not_judged for rule in boot.rules if rule.not_judged}


def _reasons(run: RunResult, number: str) -> Iterator[str]:
    """A part for each reason, with the boots that it holds for."""
    alike: dict[str, list[str]] = {}
    for boot in run.judged:
        for why in _whys(boot).get(number, ()):
            alike.setdefault(why, []).append(boot.boot)
    for why, boots in alike.items():
        yield f"{_places(boots, run)}: {why}"


def _places(boots: list[str], run: RunResult) -> str:
    if not boots:
        return "-"
    return "all" if len(boots) == len(run.judged) else ", ".join(boots)
