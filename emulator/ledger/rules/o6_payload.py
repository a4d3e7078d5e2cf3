# SPDX-License-Identifier: MIT
"""O-6: what was received stays what it is."""

from __future__ import annotations

from emulator.ledger.facts import Fact, PayloadChecked
from emulator.ledger.rules.base import Rule
from emulator.ledger.signals import Signal


class PayloadRule(Rule):
    """Stamped frames are the same when somebody looks at them again, late."""

    number = "O-6"
    title = "a received payload does not change while the stack has it"
    speaks = "at the late check"
    needs = frozenset({Signal.PAYLOAD})
    facts = (PayloadChecked,)

    def told(self, now_ns: int, fact: Fact) -> None:
        """One violation a check, with the first frame that changed."""
        if isinstance(fact, PayloadChecked) and fact.changed:
            cause = (
                f"{fact.changed} of {fact.frames} frames changed after the stack had received "
                f"them: their buffers were given to somebody else ({fact.where or 'no detail'})"
            )
            self.report(now_ns, cause, fact.iova, 0)
