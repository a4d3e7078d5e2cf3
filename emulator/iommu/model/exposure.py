# SPDX-License-Identifier: MIT
"""How much a device still reached after its owner took it back, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.iommu.model.places import LONGEST_STALE_NS, STALE_BYTE_NS, STALE_RANGES
from emulator.kernel import Floats, Ints

_NS_PER_US = 1000


@dataclass(frozen=True, slots=True)
class Exposure:
    """Sums over the stale mappings that have ended.

    ``byte_ns`` is bytes times ns; ``longest_ns`` the longest any was stale.
    """

    mappings: int = 0
    byte_ns: int = 0
    longest_ns: int = 0

    @property
    def byte_us(self) -> float:
        """Bytes times microseconds: the exposure of reports."""
        return self.byte_ns / _NS_PER_US


def exposure_of(n: Ints, f: Floats) -> Exposure:
    """What the kernels added up in ``n`` and ``f``."""
    return Exposure(int(n[STALE_RANGES]), int(f[STALE_BYTE_NS]), int(f[LONGEST_STALE_NS]))
