# SPDX-License-Identifier: MIT
"""Which frames a NIC accepts and which queue they go to, for a whole batch at a time.

The flow hash (32 bits, told to the driver in the completion) is

- a test frame (Ethernet type 0x88B5, at least 30 bytes): its flow number as it is, so that flows
  0, 1, 2, ... go round the queues and a test can tell the hash from the frame;
- IPv4, IPv6: the addresses, and the ports of an unfragmented TCP or UDP packet whose network
  header has no options;
- anything else: both MAC addresses and the Ethernet type.

Those inputs are 16-bit words ``w``; the hash is ``mix(sum(w[i] * K[i]))`` modulo 2^32, where ``K``
are fixed odd numbers by position and ``mix`` is the finaliser of MurmurHash3.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emulator.frames import FrameBatch
from emulator.kernel import loop
from emulator.nic.config import ETHERNET_HEADER

ETHERTYPE_TEST: Final = 0x88B5
ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD
TEST_HEADER_END: Final = 30
TCP, UDP = 6, 17

_MAC_END, _TYPE_AT = 6, 12
_FLOW_AT = 18
_IPV4_END, _IPV4_PORTS_END = ETHERNET_HEADER + 20, 38
_IPV6_END, _IPV6_PORTS_END = ETHERNET_HEADER + 40, 58
_BROADCAST: Final = (1 << 48) - 1

_MACS, _IPV4, _IPV6 = (0, 14), (26, 34), (22, 54)
"""First byte that is hashed and the byte behind the last; ports follow the addresses."""
_PORTS: Final = 4
_HASHED_MAX: Final = _IPV6_PORTS_END // 2

_WEIGHTS: Final = np.arange(_HASHED_MAX, dtype=np.uint32) * np.uint32(0x9E3779B2) + np.uint32(
    0x85EBCA6B
)
_MASK32: Final = np.uint64(0xFFFF_FFFF)
_MIX_1, _MIX_2 = np.uint64(0x85EBCA6B), np.uint64(0xC2B2AE35)
_SHIFT_1, _SHIFT_2, _BYTE = np.uint64(16), np.uint64(13), np.uint64(8)


class Filter(NamedTuple):
    """Which frames are taken.

    mac: the station's address as a little-endian number, as the MAC registers hold it. promisc,
    allmulti: as in register RX_FILTER; broadcast always passes.
    """

    mac: int
    promisc: bool
    allmulti: bool


def steer(frames: FrameBatch, what: Filter) -> tuple[FrameBatch, NDArray[np.uint32]]:
    """Those of ``frames`` that have a whole Ethernet header and pass, and their flow hashes."""
    count = len(frames.lengths)
    hashes, mine = np.empty(count, np.uint32), np.empty(count, np.bool_)
    passed = _steer(
        frames.data, frames.offsets, frames.lengths, what.mac, what.promisc, what.allmulti,
        _WEIGHTS, mine, hashes,
    )  # fmt: skip
    return (frames, hashes) if passed == count else (frames[mine], hashes[mine])


def by_queue(
    hashes: NDArray[np.uint32], queues: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64[n]: rows sorted by queue, those of a queue in their order; int64[queues]: its end."""
    order, ends = np.empty(len(hashes), np.int64), np.zeros(queues, np.int64)
    _by_queue(hashes, order, ends)
    return order, ends


@loop
def _by_queue(hashes: NDArray[np.uint32], order: NDArray[np.int64], ends: NDArray[np.int64]) -> int:
    """Counts, then places: afterwards ``ends`` are the ends."""
    queues = np.uint32(len(ends))
    for flow in hashes:
        ends[flow % queues] += 1
    start = 0
    for queue in range(len(ends)):
        start += ends[queue]
        ends[queue] = start - ends[queue]
    for row in range(len(hashes)):
        queue = hashes[row] % queues
        order[ends[queue]] = row
        ends[queue] += 1
    return 0


@loop
def _flow_hash(frame: NDArray[np.uint8], weights: NDArray[np.uint32]) -> np.uint64:
    """The flow hash of one frame of at least a whole Ethernet header.

    Each byte that is looked at lies within the frame: the length is asked first.
    """
    length = len(frame)
    kind = np.int64(frame[_TYPE_AT]) << 8 | np.int64(frame[_TYPE_AT + 1])
    if kind == ETHERTYPE_TEST and length >= TEST_HEADER_END:
        flow = np.uint64(0)
        for k in range(_FLOW_AT, _FLOW_AT + 4):
            flow = flow << _BYTE | np.uint64(frame[k])
        return flow
    begin, end = _MACS
    if kind == ETHERTYPE_IPV4 and length >= _IPV4_END:
        begin, end = _IPV4
        whole = frame[14] == 0x45 and frame[20] & 0x3F == 0 and frame[21] == 0
        if whole and (frame[23] == TCP or frame[23] == UDP) and length >= _IPV4_PORTS_END:
            end += _PORTS
    elif kind == ETHERTYPE_IPV6 and length >= _IPV6_END:
        begin, end = _IPV6
        if (frame[20] == TCP or frame[20] == UDP) and length >= _IPV6_PORTS_END:
            end += _PORTS
    value = np.uint64(0)
    for k in range(begin, end, 2):
        word = np.uint64(frame[k]) << _BYTE | np.uint64(frame[k + 1])
        value += word * np.uint64(weights[k // 2])
    value = value & _MASK32
    value = (value ^ value >> _SHIFT_1) * _MIX_1 & _MASK32
    value = (value ^ value >> _SHIFT_2) * _MIX_2 & _MASK32
    return value ^ value >> _SHIFT_1


@loop
def _steer(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    lengths: NDArray[np.int64],
    mac: int,
    promisc: bool,
    allmulti: bool,
    weights: NDArray[np.uint32],
    mine: NDArray[np.bool_],
    hashes: NDArray[np.uint32],
) -> int:
    """Fills ``mine`` and, where that is True, ``hashes``; returns how many are True."""
    passed = 0
    for i in range(len(lengths)):
        at, length = offsets[i], lengths[i]
        mine[i] = False
        if length < ETHERNET_HEADER or at < 0 or at > len(data) - length:
            continue
        frame = data[at : at + length]
        station = np.int64(0)
        for k in range(_MAC_END):
            station |= np.int64(frame[k]) << (8 * k)
        group = station & 1 if allmulti else station == _BROADCAST
        if not (promisc or station == mac or group):
            continue
        mine[i] = True
        passed += 1
        hashes[i] = _flow_hash(frame, weights)
    return passed
