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

from typing import Final

import numpy as np
from numpy.typing import NDArray

from emulator.nic.config import ETHERNET_HEADER

HEAD: Final = 64
"""Bytes of each frame that are looked at."""

ETHERTYPE_TEST: Final = 0x88B5
ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD
TEST_HEADER_END: Final = 30
IPV4_PORTS_END: Final = 38
IPV6_PORTS_END: Final = 58
TCP, UDP = 6, 17

_MACS, _IPV4, _IPV4_PORTS, _IPV6, _IPV6_PORTS = range(5)
_INPUTS: Final = {
    _MACS: range(7),
    _IPV4: range(13, 17),
    _IPV4_PORTS: range(13, 19),
    _IPV6: range(11, 27),
    _IPV6_PORTS: range(11, 29),
}
"""Kind of frame -> which of its 16-bit words are hashed."""


def _weights() -> NDArray[np.uint32]:
    odd = np.arange(HEAD // 2, dtype=np.uint32) * np.uint32(0x9E3779B2) + np.uint32(0x85EBCA6B)
    table = np.zeros((len(_INPUTS), HEAD // 2), np.uint32)
    for kind, words in _INPUTS.items():
        table[kind, words.start : words.stop] = odd[words.start : words.stop]
    return table


_WEIGHTS: Final = _weights()


def accepted(
    rows: NDArray[np.uint8], mac: bytes, promisc: bool, allmulti: bool
) -> NDArray[np.bool_]:
    """bool[n]: the frames whose destination passes RX_FILTER. ``rows``: :data:`HEAD` bytes each."""
    if promisc:
        return np.ones(len(rows), np.bool_)
    station = rows[:, :6]
    own = (station == np.frombuffer(mac, np.uint8)).all(axis=1)
    if allmulti:
        group: NDArray[np.bool_] = (station[:, 0] & 1) != 0
    else:
        group = (station == 0xFF).all(axis=1)
    passing: NDArray[np.bool_] = own | group
    return passing


def flow_hash(rows: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.uint32]:
    """uint32[n]: see the module's text. ``rows``: :data:`HEAD` bytes each."""
    words = rows.view(">u2").astype(np.uint32)
    ethertype = words[:, 6]
    test = (ethertype == ETHERTYPE_TEST) & (lengths >= TEST_HEADER_END)
    flow = words[:, 9] << np.uint32(16) | words[:, 10]
    if test.all():
        return flow
    kinds = _kinds(rows, words, lengths)
    sums = (words * _WEIGHTS[kinds]).sum(axis=1, dtype=np.uint32)
    return np.where(test, flow, _mix(sums))


def _kinds(
    rows: NDArray[np.uint8], words: NDArray[np.uint32], lengths: NDArray[np.int64]
) -> NDArray[np.intp]:
    v4 = (words[:, 6] == ETHERTYPE_IPV4) & (lengths >= ETHERNET_HEADER + 20)
    v6 = (words[:, 6] == ETHERTYPE_IPV6) & (lengths >= ETHERNET_HEADER + 40)
    whole = (rows[:, 14] == 0x45) & ((words[:, 10] & 0x3FFF) == 0)
    ports4 = v4 & whole & np.isin(rows[:, 23], (TCP, UDP)) & (lengths >= IPV4_PORTS_END)
    ports6 = v6 & np.isin(rows[:, 20], (TCP, UDP)) & (lengths >= IPV6_PORTS_END)
    return np.select(
        [ports4, v4, ports6, v6], [_IPV4_PORTS, _IPV4, _IPV6_PORTS, _IPV6], default=_MACS
    ).astype(np.intp)


def _mix(value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    value = (value ^ value >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    value = (value ^ value >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return value ^ value >> np.uint32(16)
