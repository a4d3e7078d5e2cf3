# SPDX-License-Identifier: MIT
"""What comes over the wire, as two tables: sizes of packets, and the gaps between them.

A queue goes round in them, so memory does not grow with the number of packets. Gaps are in ns
where the packets have times of their own, else in units that are scaled to the rate asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emulator.errors import DmabedError
from emulator.kernel import Floats, Ints
from emulator.nic.wire.pcap import PcapError, read_pcap
from testbed.twin.queue import TABLE_SIZE
from testbed.twin.scenario import Traffic

TABLE = TABLE_SIZE
"""Packets in a table of random traffic."""
WIRE_OVERHEAD = 20
"""Preamble, start of frame and gap between frames, in bytes."""
FCS = 4
IMIX = ((64, 7), (594, 4), (1518, 1))
"""Sizes and their shares of the simple Internet mix."""


class TrafficError(DmabedError):
    """The packets of a scenario cannot be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Tables:
    """sizes: int64[n], bytes with FCS; gaps: float64[n], from each packet to the next.

    scale: ns of a gap of 1.0; 0: packets never let a poll wait.
    """

    sizes: Ints
    gaps: Floats
    scale: float


def make_tables(traffic: Traffic, queues: int, seed: int) -> Tables:
    """Traffic of one of ``queues`` queues, which share the rate.

    Raises:
        TrafficError: the pcap cannot be read, or has no packet.
    """
    random = np.random.default_rng(seed)
    if traffic.kind == "pcap":
        return _of_pcap(traffic, queues)
    sizes = np.full(TABLE, traffic.frame_bytes, np.int64)
    if traffic.kind == "imix":
        choices, shares = zip(*IMIX, strict=True)
        sizes = random.choice(choices, TABLE, p=np.array(shares) / sum(shares)).astype(np.int64)
    if traffic.rate_gbps == 0.0:
        return Tables(sizes, np.zeros(TABLE), 0.0)
    on_wire = (sizes + WIRE_OVERHEAD) * 8 / traffic.rate_gbps * queues  # ns each
    gaps = on_wire
    if traffic.kind == "poisson":
        gaps = random.exponential(1.0, TABLE) * on_wire.mean()
    elif traffic.kind == "bursts":
        gaps = on_wire / queues  # back to back, then silence until the rate is met
        last = np.arange(TABLE) % traffic.burst == traffic.burst - 1
        silence = (on_wire - gaps)[last] * traffic.burst
        gaps[last] += silence
    return Tables(sizes, gaps, 1.0)


def _of_pcap(traffic: Traffic, queues: int) -> Tables:
    try:
        recording = read_pcap(Path(traffic.pcap))
    except PcapError as error:
        raise TrafficError(str(error)) from error
    if not len(recording.frames):
        raise TrafficError(f"pcap {traffic.pcap}: no packet in it")
    if len(recording.frames) > TABLE:
        raise TrafficError(f"pcap {traffic.pcap}: more than {TABLE} packets; cut it")
    sizes = np.maximum(recording.frames.lengths.astype(np.int64) + FCS, 64)
    if traffic.rate_gbps:
        return Tables(sizes, (sizes + WIRE_OVERHEAD) * 8 / traffic.rate_gbps * queues, 1.0)
    times = recording.times_ns.astype(np.float64)
    mean = (times[-1] - times[0]) / max(1, len(times) - 1)
    gaps = np.diff(times, append=times[-1] + max(mean, 1.0))
    return Tables(sizes, gaps * queues, 1.0)


def wire_ns(frame_bytes: float, gbps: float) -> float:
    """How long a frame (with FCS) occupies the wire (docs/costs.md, wire budgets)."""
    return (frame_bytes + WIRE_OVERHEAD) * 8 / gbps
