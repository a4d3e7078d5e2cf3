# SPDX-License-Identifier: MIT
"""What translation costs the device: latency of each DMA and the time a batch of them takes.

Two calibrations exist and they must not be mixed: F&S fit one serial read latency for a NIC that
writes 4 KiB packets; pcie-bench measured independent small DMAs whose walks overlap. Each is a
:class:`WalkCosts` of its own, named by ``calibration``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.contention import Times
from emulator.iommu.model.errors import ModelError, TimeBackwardsError
from emulator.kernel import Floats, compiled, kernel

Reads = NDArray[np.int8]

TLP_HEADER_BYTES = 24  # memory request with a 64-bit address, framing included
COMPLETION_HEADER_BYTES = 20


class Calibration(StrEnum):
    """Whose measurements the numbers fit."""

    FS = "F&S"
    PCIE_BENCH = "pcie-bench"
    ASSUMED = "assumption"


@dataclass(frozen=True, slots=True)
class WalkCosts:
    """Times of translation and of the way to memory, in ns.

    Attributes:
        calibration: whose numbers these are.
        iotlb_hit_ns: of a translation that hits.
        miss_fixed_ns: of every miss, whatever it reads.
        mem_read_ns: of each page-table read.
        parallelism: walks in progress at once.
        base_ns: a DMA without translation: pcie-bench: the latency of a read; F&S: the time
            that each packet occupies the path.
        inflight: DMAs in progress at once.
    """

    calibration: Calibration
    iotlb_hit_ns: int
    miss_fixed_ns: int
    mem_read_ns: int
    parallelism: int
    base_ns: int
    inflight: int

    def __post_init__(self) -> None:
        if self.parallelism < 1 or self.inflight < 1:
            raise ModelError("parallelism and inflight must be at least 1")

    def walk_ns(self, reads: Reads) -> Times:
        """The time each access spends in the walker (0: it hit), shape (n,)."""
        counted = reads.astype(np.int64)
        return counted * self.mem_read_ns + (counted > 0) * self.miss_fixed_ns

    def latency_ns(self, reads: Reads) -> Times:
        """Of each DMA, if it never waits for a walker, shape (n,)."""
        return self.base_ns + self.iotlb_hit_ns + self.walk_ns(reads)

    def batch_ns(self, reads: Reads) -> float:
        """How long the DMAs take, back to back: the scarcer of walkers and DMAs in flight.

        A long batch tends to this; with ``parallelism`` and ``inflight`` 1 it is the sum of both.
        """
        walking = float(self.walk_ns(reads).sum())
        if self.inflight == 1:
            return len(reads) * (self.base_ns + self.iotlb_hit_ns) + walking / self.parallelism
        in_flight = float(self.latency_ns(reads).sum()) / self.inflight
        return max(walking / self.parallelism, in_flight)

    def finish_ns(self, arrivals_ns: Times, reads: Reads) -> Times:
        """When each DMA is done, shape (n,), if misses queue for ``parallelism`` walkers in order.

        ``arrivals_ns`` do not decrease. Walkers are all free at the first; ``inflight`` is for the
        caller to respect.

        Raises:
            TimeBackwardsError: an arrival before the one ahead of it.
        """
        if np.any(arrivals_ns[1:] < arrivals_ns[:-1]):
            raise TimeBackwardsError("DMAs must come in order of arrival")
        waits = np.zeros(len(reads), np.int64)
        arrivals_ns = np.ascontiguousarray(arrivals_ns)
        _walk_all(np.zeros(self.parallelism), arrivals_ns, self.walk_ns(reads), waits)
        return arrivals_ns + (self.base_ns + self.iotlb_hit_ns) + waits


@kernel
def walk_in_turn(free_at: Floats, now: float, walk_ns: float) -> float:
    """When a walk asked for at ``now`` ends: it takes the first walker that is free.

    ``free_at``: float64[walkers], when each is.
    """
    first = 0
    for walker in range(1, len(free_at)):
        if free_at[walker] < free_at[first]:
            first = walker
    free_at[first] = max(now, free_at[first]) + walk_ns
    return free_at[first]


@compiled
def _walk_all(free_at: Floats, arrivals: Times, walks: Times, waits: Times) -> None:
    for i in range(len(walks)):
        if walks[i] > 0:
            waits[i] = walk_in_turn(free_at, arrivals[i], walks[i]) - arrivals[i]


def fs_throughput_gbps(packet_bytes: int, reads_per_packet: float, costs: WalkCosts) -> float:
    """F&S's model T = p / (l0 + M * lm), not limited by the line.

    Raises:
        ModelError: the costs are not F&S's; its constants fit nothing else.
    """
    if costs.calibration is not Calibration.FS:
        raise ModelError(f"costs of '{costs.calibration}' in the formula of F&S: load F&S's own")
    return packet_bytes * 8 / (costs.base_ns + reads_per_packet * costs.mem_read_ns)


def pcie_write_gbps(size: int, tlp_gbps: float, max_payload: int = 256) -> float:
    """Payload rate of writes of ``size`` bytes on a link that carries ``tlp_gbps`` of packets."""
    headers = -(-size // max_payload) * TLP_HEADER_BYTES
    return tlp_gbps * size / (size + headers)


def pcie_read_gbps(
    size: int, tlp_gbps: float, max_payload: int = 256, max_read: int = 512
) -> float:
    """Payload rate of reads: the slower of requests upstream and completions downstream."""
    upstream = -(-size // max_read) * TLP_HEADER_BYTES
    downstream = size + -(-size // max_payload) * COMPLETION_HEADER_BYTES
    return tlp_gbps * size / max(upstream, downstream)
