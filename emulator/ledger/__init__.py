# SPDX-License-Identifier: MIT
"""Maps, unmaps, accesses and ownership of all devices on one timeline, and the rules that judge."""

from emulator.ledger.device import DeviceLedger
from emulator.ledger.ledger import Ledger
from emulator.ledger.policy import Mark, Policy
from emulator.ledger.rules.o18_amortisation import Amortisation
from emulator.ledger.verdict import Exposure, Verdict
from emulator.ledger.violation import Violation

__all__ = [
    "Amortisation",
    "DeviceLedger",
    "Exposure",
    "Ledger",
    "Mark",
    "Policy",
    "Verdict",
    "Violation",
]
