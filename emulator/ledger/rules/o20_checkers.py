# SPDX-License-Identifier: MIT
"""O-20: the guest's own checkers have nothing to say."""

from __future__ import annotations

from emulator.ledger.facts import Checked, Fact
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState


class CheckersRule(Rule):
    """No warning, splat, sanitizer report or DMA API error in the guest; each is reported once."""

    number = "O-20"
    title = "the guest's checkers are quiet"
    speaks = "when a checker was read"
    needs = frozenset({Signal.CHECKERS})
    facts = (Checked,)

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self._told: set[tuple[str, str]] = set()
        self._absent: set[str] = set()

    def told(self, now_ns: int, fact: Fact) -> None:
        """Reports what is new."""
        if not isinstance(fact, Checked):
            return
        if fact.absent:
            self._absent.add(fact.checker)
        for problem in fact.problems:
            if (fact.checker, problem) not in self._told:
                self._told.add((fact.checker, problem))
                self.report(now_ns, f"{fact.checker}: {problem}", 0, 0)

    def not_judged(self) -> list[str]:
        """Beside the signal: the checkers that the guest's kernel was built without."""
        missing = super().not_judged()
        if self._absent and not missing:
            return [f"what the guest's kernel was built without: {', '.join(sorted(self._absent))}"]
        return missing
