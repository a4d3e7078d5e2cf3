# SPDX-License-Identifier: MIT
"""O-14: interrupts keep to what software allowed."""

from __future__ import annotations

from emulator.ledger.facts import Fact, Interrupted, TableWritten, VectorsChanged
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState


class MsixRule(Rule):
    """No message goes out for a vector that is off or masked, or while DMA is forbidden.

    And software writes address and data of an entry only while it is masked: otherwise a message
    may go to half of the old place and half of the new (PCI 3.0, section 6.8.3.5). The rule keeps
    its own record of what was enabled and masked, apart from the function's.
    """

    number = "O-14"
    title = "no interrupt from a vector that is masked or off; no write to a live table entry"
    speaks = "at the interrupt; at the write"
    needs = frozenset({Signal.IRQ})
    facts = (Interrupted, VectorsChanged, TableWritten)

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self._enabled: set[int] = set()
        self._masked: set[int] = set()
        self._known = False

    def told(self, now_ns: int, fact: Fact) -> None:
        """Keeps the record, and judges what goes out."""
        if isinstance(fact, VectorsChanged):
            self._change(fact)
        elif isinstance(fact, TableWritten):
            if fact.live:
                cause = f"address or data of vector {fact.vector} was written while it was unmasked"
                self.report(now_ns, cause, 0, 0)
        elif isinstance(fact, Interrupted):
            why = self._forbidden(fact.vector)
            if why:
                self.report(now_ns, f"vector {fact.vector} was sent although {why}", 0, 0)

    def _change(self, fact: VectorsChanged) -> None:
        self._known = True
        if fact.enabled is not None:
            change = self._enabled.update if fact.enabled else self._enabled.difference_update
            change(fact.vectors)
        if fact.masked is not None:
            change = self._masked.update if fact.masked else self._masked.difference_update
            change(fact.vectors)

    def _forbidden(self, vector: int) -> str:
        if Signal.CFG in self.state.signals and not self.state.gate_open:
            return f"messages are forbidden: {self.state.gate_why}"
        if self._known and vector not in self._enabled:
            return "it is not enabled"
        return "it is masked" if vector in self._masked else ""
