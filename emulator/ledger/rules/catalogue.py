# SPDX-License-Identifier: MIT
"""The rules in force, by number."""

from __future__ import annotations

from emulator.ledger.rules.base import Rule
from emulator.ledger.rules.o1_live_set import LiveSetRule
from emulator.ledger.rules.o2_cross_device import CrossDeviceRule
from emulator.ledger.rules.o3_posted_unmap import PostedUnmapRule
from emulator.ledger.rules.o4_ring_memory import RingMemoryRule
from emulator.ledger.rules.o5_double_post import DoublePostRule
from emulator.ledger.rules.o6_payload import PayloadRule
from emulator.ledger.rules.o7_live_count import LiveCountRule
from emulator.ledger.rules.o8_pool_pages import PoolPagesRule
from emulator.ledger.rules.o9_page_tables import PageTableRule
from emulator.ledger.rules.o10_window import WindowRule
from emulator.ledger.rules.o11_gate import GateRule
from emulator.ledger.rules.o12_consumed import ConsumedRule
from emulator.ledger.rules.o13_silence import SilenceRule
from emulator.ledger.rules.o14_msix import MsixRule
from emulator.ledger.rules.o15_direction import DirectionRule
from emulator.ledger.rules.o16_subpage import SubpageRule
from emulator.ledger.rules.o17_bounded import BoundedRule
from emulator.ledger.rules.o18_amortisation import AmortisationRule
from emulator.ledger.rules.o19_alias import AliasRule
from emulator.ledger.rules.o20_checkers import CheckersRule

RULES: tuple[type[Rule], ...] = (
    LiveSetRule,
    CrossDeviceRule,
    PostedUnmapRule,
    RingMemoryRule,
    DoublePostRule,
    PayloadRule,
    LiveCountRule,
    PoolPagesRule,
    PageTableRule,
    WindowRule,
    GateRule,
    ConsumedRule,
    SilenceRule,
    MsixRule,
    DirectionRule,
    SubpageRule,
    BoundedRule,
    AmortisationRule,
    AliasRule,
    CheckersRule,
)
