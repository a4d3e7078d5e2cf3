# SPDX-License-Identifier: MIT
"""Frames out of a pcap file, and frames seen on a cable into one.

Format: libpcap 2.4 as read and written by dpkt. Written files have nanosecond stamps.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, Final

import dpkt
import numpy as np
from numpy.typing import NDArray

from emulator.errors import DmabedError
from emulator.frames import FrameBatch
from emulator.nic.wire.base import Wire

NS_PER_S: Final = 10**9
SNAP_BYTES: Final = 1 << 16
NANO_MAGICS: Final = (dpkt.pcap.TCPDUMP_MAGIC_NANO, dpkt.pcap.PMUDPCT_MAGIC_NANO)
_UNREADABLE: Final = (ValueError, dpkt.dpkt.UnpackError)


class PcapError(DmabedError):
    """A capture cannot be used."""


@dataclass(frozen=True)
class Recording:
    """A capture: frame ``i`` was seen ``times_ns[i]`` after the first (int64[n], ascending)."""

    frames: FrameBatch
    times_ns: NDArray[np.int64]


def parse(capture: bytes) -> Recording:
    """The Ethernet frames in ``capture``, the bytes of a pcap file.

    Raises:
        PcapError: not a pcap file, not of Ethernet, cut short, or a frame was captured in part.
    """
    try:
        reader = dpkt.pcap.Reader(io.BytesIO(capture))
    except _UNREADABLE as error:
        raise PcapError(f"not a pcap file: {error}") from error
    if reader.datalink() != dpkt.pcap.DLT_EN10MB:
        raise PcapError(f"link type {reader.datalink()}: only Ethernet (1) can be replayed")
    frames, stamps = [], []
    for stamp, frame in _records(capture):
        frames.append(frame)
        stamps.append(stamp)
    times = np.array(stamps, np.int64)
    elapsed = np.maximum.accumulate(times) - times[:1]
    return Recording(FrameBatch.of(frames), elapsed)


def _records(capture: bytes) -> Iterator[tuple[int, bytes]]:
    """(time in ns, frame) of each record. dpkt's own reader rounds stamps and hides a cut file."""
    magic = int.from_bytes(capture[:4], "big")
    header = dpkt.pcap.MAGIC_TO_PKT_HDR[magic]
    unit_ns = 1 if magic in NANO_MAGICS else 1000
    at, head = dpkt.pcap.FileHdr.__hdr_len__, header.__hdr_len__
    while at < len(capture):
        try:
            record = header(capture[at : at + head])
        except dpkt.dpkt.UnpackError as error:
            raise PcapError(f"cut short in the record header at byte {at}") from error
        frame = capture[at + head : at + head + record.caplen]
        if len(frame) != record.caplen or record.caplen < record.len:
            raise PcapError(f"the frame at byte {at} was cut short, {len(frame)} of {record.len}")
        yield record.tv_sec * NS_PER_S + record.tv_usec * unit_ns, frame
        at += head + record.caplen


def read_pcap(path: Path) -> Recording:
    """The frames in the file at ``path``.

    Raises:
        PcapError: it cannot be read, or as in :func:`parse`.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise PcapError(f"cannot read {path}: {error.strerror}") from error
    except PcapError as error:
        raise PcapError(f"{path}: {error}") from error


class Replay:
    """Sends the frames of ``recording`` once; what it receives is discarded.

    ``paced``: at their times, counted from when it was first asked; else as fast as taken.
    """

    def __init__(self, recording: Recording, paced: bool = False) -> None:
        self._recording, self._paced = recording, paced
        self._next = 0
        self._start_ns: int | None = None

    @property
    def position(self) -> int:
        """Frames sent so far."""
        return self._next

    @property
    def done(self) -> bool:
        """Whether all frames were sent."""
        return self._next == len(self._recording.frames)

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        end = min(self._next + room, self._due(now_ns))
        frames = self._recording.frames[self._next : end]
        self._next = end
        return frames

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        """See :class:`~emulator.nic.wire.base.Wire`."""

    def next_due_ns(self, now_ns: int) -> int | None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        if self.done:
            return None
        if not self._paced or self._start_ns is None:
            return now_ns
        return self._start_ns + int(self._recording.times_ns[self._next])

    def _due(self, now_ns: int) -> int:
        """How many of the frames are due."""
        if not self._paced:
            return len(self._recording.frames)
        if self._start_ns is None:
            self._start_ns = now_ns
        elapsed = now_ns - self._start_ns
        return int(np.searchsorted(self._recording.times_ns, elapsed, side="right"))


class PcapWriter:
    """Turns frames into the bytes of a pcap file and gives them to ``sink`` about every ``buffer``.

    ``sink`` is, for instance, the ``write`` of an open file. ``buffer``: bytes held back at most,
    besides the batch that exceeds it.
    """

    def __init__(self, sink: Callable[[bytes], object], buffer: int = 1 << 20) -> None:
        self._sink, self._limit = sink, buffer
        self._buffer: BinaryIO = io.BytesIO()
        self._writer = dpkt.pcap.Writer(self._buffer, snaplen=SNAP_BYTES, nano=True)

    def write(self, frames: FrameBatch, now_ns: int) -> None:
        """Appends ``frames``, all seen at ``now_ns``."""
        stamp = Decimal(now_ns) / NS_PER_S
        for frame in frames:
            self._writer.writepkt_time(frame, stamp)
        if self._buffer.tell() >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Gives everything held back to the sink."""
        self._buffer.seek(0)
        data = self._buffer.read()
        self._buffer.seek(0)
        self._buffer.truncate()
        if data:
            self._sink(data)


class Tap:
    """A wire that also writes every frame seen on ``wire``, in either direction, to ``writer``.

    The owner flushes ``writer`` in the end.
    """

    def __init__(self, wire: Wire, writer: PcapWriter) -> None:
        self._wire, self._writer = wire, writer

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        frames = self._wire.receive(room, now_ns)
        self._writer.write(frames, now_ns)
        return frames

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        self._writer.write(frames, now_ns)
        self._wire.transmit(frames, now_ns)

    def next_due_ns(self, now_ns: int) -> int | None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        return self._wire.next_due_ns(now_ns)
