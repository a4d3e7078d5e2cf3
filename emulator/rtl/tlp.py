# SPDX-License-Identifier: MIT
"""Transaction-layer packets as the RTL's ports carry them: header fields and payload bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from emulator.rtl.layout import constants, struct

BEAT_BYTES: Final = 16
PAGE: Final = 4096

_C = constants()
TX_HEADER: Final = struct("tx_header_t")
RX_HEADER: Final = struct("rx_header_t")


class Kind(IntEnum):
    """``tx_header_t.kind``."""

    WRITE = _C["TX_WRITE"]
    READ = _C["TX_READ"]
    TRANSLATION = _C["TX_TRANSLATION"]
    INV_CPL = _C["TX_INV_CPL"]


class At(IntEnum):
    """The address type."""

    UNTRANSLATED = _C["AT_UNTRANSLATED"]
    TRANSLATION = _C["AT_TRANSLATION"]
    TRANSLATED = _C["AT_TRANSLATED"]


class Status(IntEnum):
    """Completion status, PCIe Base Specification 2.2.9."""

    SUCCESS = 0
    UNSUPPORTED = 1
    ABORTED = 4


class Tlp:
    """What the device sent: ``time`` in cycles at its last beat, ``number`` counts them."""

    __slots__ = ("addr", "at", "data", "fields", "kind", "length", "number", "tag", "time")

    def __init__(self, header: int, data: bytes, time: int, number: int) -> None:
        self.fields = fields = TX_HEADER.unpack(header)
        self.kind, self.at = Kind(fields["kind"]), fields["at"]
        self.addr, self.length, self.tag = fields["addr"], fields["len"], fields["tag"]
        self.data = data[: self.length] if self.kind is Kind.WRITE else b""
        self.time, self.number = time, number

    @property
    def pasid(self) -> int | None:
        """The PASID it carries."""
        return self.fields["pasid"] if self.fields["pasid_valid"] else None

    @property
    def translated(self) -> bool:
        """It uses an address that ATS gave."""
        return self.at == At.TRANSLATED

    @property
    def itags(self) -> int:
        """Invalidate completion: the ITag vector."""
        return self.fields["itags"]

    @property
    def copies(self) -> int:
        """Invalidate completion: CC, 0 means 8."""
        return (self.addr >> 32 & 7) or 8

    @property
    def target(self) -> int:
        """Invalidate completion: Device ID, whom it is for."""
        return self.addr >> 16 & 0xFFFF

    def __str__(self) -> str:
        where = f"{self.addr:#x}+{self.length}" if self.kind is not Kind.INV_CPL else ""
        extra = f" itags {self.itags:#x}" if self.kind is Kind.INV_CPL else f" tag {self.tag}"
        return f"#{self.number} {self.kind.name} at={self.at} {where}{extra} (cycle {self.time})"


@dataclass(frozen=True)
class Incoming:
    """What the device is sent: header fields of ``rx_header_t``, payload."""

    fields: dict[str, int] = field(default_factory=dict)
    data: bytes = b""

    @property
    def header(self) -> int:
        """The vector on ``rx_tuser``."""
        return RX_HEADER.pack(**self.fields)

    def beats(self) -> list[int]:
        """The payload, 16 bytes a beat; one beat at least."""
        padded = self.data.ljust(max(1, -(-len(self.data) // BEAT_BYTES)) * BEAT_BYTES, b"\0")
        return [
            int.from_bytes(padded[at : at + BEAT_BYTES], "little")
            for at in range(0, len(padded), BEAT_BYTES)
        ]


def completion(
    tag: int,
    data: bytes,
    byte_count: int,
    status: Status = Status.SUCCESS,
    poisoned: bool = False,
    tc: int = 0,
) -> Incoming:
    """A completion; ``byte_count``: bytes that remain, those of ``data`` included."""
    fields = {"kind": _C["RX_CPL"], "tag": tag, "status": int(status), "poisoned": int(poisoned)}
    return Incoming(fields | {"byte_count": byte_count, "len": len(data), "tc": tc}, data)


def invalidate(itag: int, body: bytes, requester: int, pasid: int | None, tc: int) -> Incoming:
    """An invalidate request with these eight bytes of payload."""
    fields = {"kind": _C["RX_INV_REQ"], "itag": itag, "requester": requester, "len": len(body)}
    fields |= {"tc": tc, "pasid_valid": int(pasid is not None), "pasid": pasid or 0}
    return Incoming(fields, body)


def coded_range(addr: int, size: int) -> int:
    """Address and size as ATS codes them in bits 63:11 (PCIe 10.2.3.2): S, and low ones.

    size: bytes, a power of two from 4096 on; ``addr`` is a multiple of it.
    """
    if size == PAGE:
        return addr
    ones = (size // 2 - 1) & ~(PAGE - 1)
    return addr & ~(size - 1) | ones | 1 << 11


def invalidate_body(addr: int, size: int, all_pasids: bool = False) -> bytes:
    """Payload of an invalidate request: bytes in memory order, most significant first (10.3.1)."""
    return (coded_range(addr, size) | int(all_pasids)).to_bytes(8, "big")


def translation_entry(
    addr: int, size: int, read: bool, write: bool, untranslated: bool = False
) -> bytes:
    """One entry of a translation completion, bytes in memory order (10.2.3)."""
    flags = int(untranslated) << 2 | int(write) << 1 | int(read)
    return (coded_range(addr, size) | flags).to_bytes(8, "big")
