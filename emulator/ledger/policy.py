# SPDX-License-Identifier: MIT
"""What the guest says of itself, and what the scenario expects of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """Marks that the ledger understands; any other name is only recorded."""

    BASELINE = "baseline"  # mappings alive now belong to the platform, not to the driver
    DRIVER_BOUND = "driver_bound"  # a driver owns the device from now on
    RELEASED = "released"  # the guest has given all memory of the device back
    DRIVER_REMOVED = "driver_removed"  # no driver owns the device any more


@dataclass(frozen=True, slots=True)
class Policy:
    """How strictly the ledger judges.

    lazy: the guest's IOMMU invalidates late by design: mappings that outlive their memory are
        exposure, reported with their window, not a driver bug.
    exclusive: no guest page may be mapped by two devices at once (otherwise it is only counted).
    keep_violations: of each rule, kept in full; the rest is counted.
    """

    lazy: bool = False
    exclusive: bool = False
    keep_violations: int = 100
