# SPDX-License-Identifier: MIT
"""The counters of a queue pair; each field is the 64-bit register of the same name."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class QueueStats:
    """Since the last reset. Names and meaning: the statistics registers of ``registers.rdl``."""

    rx_packets: int = 0
    rx_bytes: int = 0
    rx_drops: int = 0
    rx_errors: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0
    interrupts: int = 0

    def clear(self) -> None:
        """All counters start again at 0."""
        for field in fields(self):
            setattr(self, field.name, 0)
