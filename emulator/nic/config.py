# SPDX-License-Identifier: MIT
"""What one NIC is built with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emulator.errors import DmabedError
from emulator.nic.registers import DMABED_QP_MAX

RING_LOG2_MIN: Final = 6
RING_LOG2_CAP: Final = 12
FRAME_CAP: Final = 9018
"""Largest frame without FCS, bytes: a 9000-byte packet behind Ethernet and VLAN headers."""

ETHERNET_HEADER: Final = 14


class NicConfigError(DmabedError):
    """A NIC cannot be built like this."""


@dataclass(frozen=True)
class NicConfig:
    """Parameters of a NIC.

    mac: six bytes, unicast. speed_mbps: shown while the link is up. pause: the NIC stops the
    sender, as IEEE 802.3 Annex 31B PAUSE would, instead of dropping for want of descriptors.
    Without it a wire that always has a frame keeps every step busy, if only with dropping.
    batch: frames taken from the wire, and descriptors taken from each transmit ring, in one step.
    prefetch: descriptors of a ring held at most before they are used.

    Raises:
        NicConfigError: a value is out of range.
    """

    mac: bytes
    queues: int = 4
    ring_log2_max: int = RING_LOG2_CAP
    speed_mbps: int = 10_000
    pause: bool = True
    batch: int = 512
    prefetch: int = 512

    def __post_init__(self) -> None:
        self._require(len(self.mac) == 6 and not self.mac[0] & 1, "mac", "six bytes, unicast")
        self._require(1 <= self.queues <= DMABED_QP_MAX, "queues", f"1 to {DMABED_QP_MAX}")
        in_range = RING_LOG2_MIN <= self.ring_log2_max <= RING_LOG2_CAP
        self._require(in_range, "ring_log2_max", f"{RING_LOG2_MIN} to {RING_LOG2_CAP}")
        self._require(0 < self.speed_mbps < 1 << 32, "speed_mbps", "1 to 2^32 - 1")
        self._require(self.batch >= 1, "batch", "at least 1")
        self._require(self.prefetch >= 2, "prefetch", "at least 2")

    def _require(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise NicConfigError(f"NicConfig.{name} = {getattr(self, name)!r}: must be {allowed}")
