# SPDX-License-Identifier: MIT
"""What a guest measures of itself, in its own clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MapTimes:
    """What one map and one unmap took in the guest's own clock, ns: means and medians."""

    map_ns: float
    unmap_ns: float
    map_p50_ns: float
    unmap_p50_ns: float


@dataclass(frozen=True, slots=True)
class Reception:
    """What the guest's sink counted: its own clock, its own checks."""

    packets: int
    seconds: float
    errors: int
    short: int

    @property
    def packets_per_second(self) -> float:
        """From the first packet to the last."""
        return (self.packets - 1) / self.seconds if self.packets > 1 and self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Steady:
    """One steady window: the guest's reception and the device's counts (``Amortisation``)."""

    reception: Reception
    counts: dict[str, Any]


def key_values(text: str) -> dict[str, str]:
    """What ``key value key value ...`` says, over any number of lines."""
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=False))
