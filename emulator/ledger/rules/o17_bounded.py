# SPDX-License-Identifier: MIT
"""O-17: nothing takes for ever."""

from __future__ import annotations

from emulator.ledger.facts import Fact, Took
from emulator.ledger.rules.base import Rule
from emulator.ledger.signals import Signal


class BoundedRule(Rule):
    """Interface down and up, resize, remove, recovery and sleep end within the policy's limits."""

    number = "O-17"
    title = "ifdown, remove, recovery and sleep end in bounded time"
    speaks = "when the operation has ended, or was given up"
    needs = frozenset({Signal.TIMES})
    facts = (Took,)

    def told(self, now_ns: int, fact: Fact) -> None:
        """An operation without a limit is only recorded."""
        if not isinstance(fact, Took):
            return
        limit_ns = self.state.policy.limits_ns.get(fact.what)
        if limit_ns is not None and fact.duration_ns > limit_ns:
            cause = (
                f"{fact.what} took {fact.duration_ns / 1e6:.1f} ms, "
                f"more than {limit_ns / 1e6:.0f} ms"
            )
            self.report(now_ns, cause, 0, 0)
