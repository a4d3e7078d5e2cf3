# SPDX-License-Identifier: MIT
"""Test frames: built and checked for whole batches, without a loop over frames.

Layout, big endian, after the 14-byte Ethernet header of type 0x88B5: u32 magic 0xDBED0001, u32
flow, u64 sequence number (per flow, from 0), then filler. Byte ``k`` of the filler is
``(sequence * 31 + flow * 17 + k) & 0xff``. A frame shorter than 30 bytes is no test frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from emulator.kernel import loop
from emulator.nic.rows import heads, windows
from emulator.nic.steering import ETHERTYPE_TEST

MAGIC: Final = 0xDBED0001
HEADER_END: Final = 30
LONGEST: Final = 1 << 16
"""No frame is longer, bytes."""

HEADER: Final = np.dtype(
    [
        ("dst", "u1", 6),
        ("src", "u1", 6),
        ("type", ">u2"),
        ("magic", ">u4"),
        ("flow", ">u4"),
        ("sequence", ">u8"),
    ]
)
"""The first 30 bytes of a test frame."""


_RAMP: Final = np.arange(256 + LONGEST, dtype=np.int64).astype(np.uint8)
"""Counts up, modulo 256: every filler is a part of it."""


def _filler(bases: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """uint8[n, width]: row ``i`` counts up from ``bases[i]``, modulo 256."""
    rows: NDArray[np.uint8] = windows(_RAMP, width)[bases]
    return rows


def _bases(flows: NDArray[np.int64], sequences: NDArray[np.int64]) -> NDArray[np.uint8]:
    return (sequences * 31 + flows * 17).astype(np.uint8)


def build(
    dst: bytes,
    src: bytes,
    flows: NDArray[np.int64],
    sequences: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> FrameBatch:
    """Test frames of ``lengths`` bytes (each at least 30). All arrays are int64[n]."""
    header = np.zeros(1, HEADER)
    header["dst"], header["src"] = np.frombuffer(dst, np.uint8), np.frombuffer(src, np.uint8)
    header["type"], header["magic"] = ETHERTYPE_TEST, MAGIC
    offsets = np.cumsum(lengths) - lengths
    data = np.empty(int(lengths.sum()), np.uint8)
    _fill(data, offsets, lengths, header.view(np.uint8), _RAMP, flows, sequences)
    return FrameBatch(data, offsets, lengths)


_FLOW_AT: Final = HEADER_END - 12
_SEQUENCE_AT: Final = HEADER_END - 8


@loop
def _fill(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    lengths: NDArray[np.int64],
    header: NDArray[np.uint8],
    ramp: NDArray[np.uint8],
    flows: NDArray[np.int64],
    sequences: NDArray[np.int64],
) -> int:
    """Writes frame ``i`` to its place in ``data``: ``header`` with its numbers, then its filler."""
    for i in range(len(lengths)):
        frame = data[offsets[i] : offsets[i] + lengths[i]]
        frame[:HEADER_END] = header
        for k in range(4):
            frame[_FLOW_AT + k] = flows[i] >> (24 - 8 * k) & 0xFF
        for k in range(8):
            frame[_SEQUENCE_AT + k] = sequences[i] >> (56 - 8 * k) & 0xFF
        filler = frame[HEADER_END:]
        base = (sequences[i] * 31 + flows[i] * 17) & 0xFF
        source = ramp[base : base + len(filler)]
        for k in range(len(filler)):  # a slice assignment would take ten times as long
            filler[k] = source[k]
    return 0


@dataclass(frozen=True)
class Verdicts:
    """What :func:`check` found: every array has one element per frame of the batch."""

    test: NDArray[np.bool_]
    intact: NDArray[np.bool_]
    flows: NDArray[np.int64]
    sequences: NDArray[np.int64]


def check(frames: FrameBatch) -> Verdicts:
    """Which of ``frames`` are test frames, and which of those carry the filler they should."""
    header = heads(frames, HEADER_END).view(HEADER).reshape(-1)
    test = (header["type"] == ETHERTYPE_TEST) & (header["magic"] == MAGIC)
    test &= frames.lengths >= HEADER_END
    flows, sequences = header["flow"].astype(np.int64), header["sequence"].astype(np.int64)
    intact = test.copy()
    bases = _bases(flows, sequences)
    data = np.ascontiguousarray(frames.data)
    for length in np.unique(frames.lengths[test]).tolist():
        width = length - HEADER_END
        rows = np.flatnonzero(test & (frames.lengths == length))
        if width:
            found = windows(data, width)[frames.offsets[rows] + HEADER_END]
            intact[rows] = (found == _filler(bases[rows], width)).all(axis=1)
    return Verdicts(test, intact, flows, sequences)


@loop
def number(flows: NDArray[np.int64], sent: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n]: the sequence numbers of frames of ``flows``, of which ``sent`` went before.

    Each of ``flows`` is an index of ``sent``, which counts the new ones.
    """
    sequences = np.empty(len(flows), np.int64)
    for i in range(len(flows)):
        sequences[i] = sent[flows[i]]
        sent[flows[i]] += 1
    return sequences


class Checker:
    """Counts the test frames that arrive and what is wrong with them.

    ``corrupt``: filler differs. ``misordered``: the sequence number is not the next of its flow (so
    a lost, doubled or overtaken frame counts at least once). ``others``: not test frames.
    """

    def __init__(self) -> None:
        self.frames = self.corrupt = self.misordered = self.others = 0
        self._next: dict[int, int] = {}

    def take(self, frames: FrameBatch) -> None:
        """Checks a batch."""
        verdicts = check(frames)
        self.frames += int(verdicts.test.sum())
        self.others += len(frames) - int(verdicts.test.sum())
        self.corrupt += int((verdicts.test & ~verdicts.intact).sum())
        good = verdicts.intact
        for flow in np.unique(verdicts.flows[good]).tolist():
            self._order(flow, verdicts.sequences[good & (verdicts.flows == flow)])

    def _order(self, flow: int, sequences: NDArray[np.int64]) -> None:
        expected = np.concatenate(([self._next.get(flow, 0)], sequences[:-1] + 1))
        self.misordered += int((sequences != expected).sum())
        self._next[flow] = int(sequences[-1]) + 1
