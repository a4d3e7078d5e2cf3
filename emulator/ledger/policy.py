# SPDX-License-Identifier: MIT
"""What the guest says of itself, and what the scenario expects of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

SECOND = 1_000_000_000
#: ns that an operation may take; the watchdogs of a driver and of the stack are about as patient.
LIMITS_NS: Mapping[str, int] = MappingProxyType(
    {
        "ifdown": 5 * SECOND, "ifup": 5 * SECOND, "resize": 10 * SECOND, "remove": 10 * SECOND,
        "suspend": 10 * SECOND, "resume": 10 * SECOND, "recovery": 10 * SECOND,
    }
)  # fmt: skip
#: The same while the device misbehaves by order, for ten seconds at the longest: the driver asks it
#: to reset itself once a second, and ten times, before it gives up (``driver/linux``).
LIMITS_UNDER_FAULTS_NS: Mapping[str, int] = MappingProxyType(dict.fromkeys(LIMITS_NS, 20 * SECOND))


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
    exclusive: no guest page may be mapped twice at once, by two devices or by one (otherwise it
        is only counted).
    stall_ns: an interrupt not answered, or not raised, for so long is a stall.
    limits_ns: what an operation may take, by name.
    keep_violations: of each rule, kept in full; the rest is counted.
    """

    lazy: bool = False
    exclusive: bool = False
    stall_ns: int = SECOND
    limits_ns: Mapping[str, int] = field(default_factory=lambda: dict(LIMITS_NS))
    keep_violations: int = 100
