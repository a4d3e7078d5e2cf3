# SPDX-License-Identifier: MIT
"""The rules in force, by number."""

from __future__ import annotations

from emulator.ledger.rules.base import Rule
from emulator.ledger.rules.o1_live_set import LiveSetRule
from emulator.ledger.rules.o2_cross_device import CrossDeviceRule
from emulator.ledger.rules.o3_posted_unmap import PostedUnmapRule
from emulator.ledger.rules.o4_ring_memory import RingMemoryRule
from emulator.ledger.rules.o7_live_count import LiveCountRule
from emulator.ledger.rules.o11_gate import GateRule
from emulator.ledger.rules.o18_amortisation import AmortisationRule

RULES: tuple[type[Rule], ...] = (
    LiveSetRule,
    CrossDeviceRule,
    PostedUnmapRule,
    RingMemoryRule,
    LiveCountRule,
    GateRule,
    AmortisationRule,
)
