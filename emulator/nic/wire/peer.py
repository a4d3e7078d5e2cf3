# SPDX-License-Identifier: MIT
"""A host on the cable, IPv4: answers ARP (RFC 826), ICMP echo (RFC 792), UDP echo (RFC 862).

Its input is whatever a guest sends: what it cannot parse or is not meant for it, it ignores.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

import dpkt

from emulator.frames import FrameBatch
from emulator.nic.wire.loop import FrameQueue

BROADCAST: Final = b"\xff" * 6
ECHO_PORT: Final = 7
TTL: Final = 64
FRAGMENT: Final = dpkt.ip.IP_MF | dpkt.ip.IP_OFFMASK
PEER_MAC: Final = bytes.fromhex("02dbed0000fe")
PEER_IP: Final = IPv4Address("192.0.2.1")


class Peer:
    """The host at ``ip`` and ``mac``.

    ``limit``: replies that wait for the NIC at most; more are lost and counted in :attr:`lost`.
    """

    def __init__(
        self, ip: IPv4Address = PEER_IP, mac: bytes = PEER_MAC, limit: int = 1 << 12
    ) -> None:
        self._ip, self._mac = ip.packed, mac
        self._replies = FrameQueue(limit)

    @property
    def lost(self) -> int:
        """Replies that found no room."""
        return self._replies.lost

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        return self._replies.take(room)

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        """See :class:`~emulator.nic.wire.base.Wire`: answers what is to be answered."""
        replies = [reply for frame in frames if (reply := self._answer(frame)) is not None]
        self._replies.put(FrameBatch.of(replies))

    def next_due_ns(self, now_ns: int) -> int | None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        return now_ns if len(self._replies) else None

    def _answer(self, frame: bytes) -> bytes | None:
        if frame[:6] not in (self._mac, BROADCAST):
            return None
        try:
            ethernet = dpkt.ethernet.Ethernet(frame)
        except (dpkt.dpkt.UnpackError, ValueError, IndexError):
            return None
        answers: dict[type, Callable[[dpkt.Packet], dpkt.Packet | None]] = {
            dpkt.arp.ARP: self._arp,
            dpkt.ip.IP: self._ipv4,
        }
        answer = answers.get(type(ethernet.data))
        payload = answer(ethernet.data) if answer else None
        if payload is None:
            return None
        header = dpkt.ethernet.Ethernet(dst=ethernet.src, src=self._mac, type=ethernet.type)
        return bytes(header)[:14] + bytes(payload)

    def _arp(self, request: dpkt.Packet) -> dpkt.Packet | None:
        if request.op != dpkt.arp.ARP_OP_REQUEST or request.tpa != self._ip:
            return None
        return dpkt.arp.ARP(
            op=dpkt.arp.ARP_OP_REPLY,
            sha=self._mac,
            spa=self._ip,
            tha=request.sha,
            tpa=request.spa,
        )

    def _ipv4(self, request: dpkt.Packet) -> dpkt.Packet | None:
        fragment = request._flags_offset & FRAGMENT
        if request.dst != self._ip or fragment:
            return None
        answers: dict[type, Callable[[dpkt.Packet], dpkt.Packet | None]] = {
            dpkt.icmp.ICMP: self._icmp,
            dpkt.udp.UDP: self._udp,
        }
        answer = answers.get(type(request.data))
        data = answer(request.data) if answer else None
        if data is None:
            return None
        return dpkt.ip.IP(
            src=self._ip, dst=request.src, p=request.p, id=request.id, ttl=TTL, data=data
        )

    @staticmethod
    def _icmp(request: dpkt.Packet) -> dpkt.Packet | None:
        if request.type != dpkt.icmp.ICMP_ECHO:
            return None
        return dpkt.icmp.ICMP(type=dpkt.icmp.ICMP_ECHOREPLY, data=bytes(request.data))

    @staticmethod
    def _udp(request: dpkt.Packet) -> dpkt.Packet | None:
        if request.dport != ECHO_PORT or request.sport == ECHO_PORT:
            return None
        data = bytes(request.data)
        return dpkt.udp.UDP(sport=request.dport, dport=request.sport, ulen=8 + len(data), data=data)
