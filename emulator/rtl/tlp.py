# SPDX-License-Identifier: MIT
"""TLPs between the RTL's ports and the models of cocotbext-pcie.

The RTL's side has byte addresses, byte lengths and a decoded header; the library's ``Tlp`` has the
header as PCIe has it. What that class has no place for is added here: a PASID prefix, and the
fields of ATS, which lie where other kinds keep theirs (PCIe Base Specification, chapter 10):

* message code: where memory requests have their byte enables;
* "no write" of a translation request: bit 0 of the address, where others have a hint;
* ITag of an invalidate request: the tag; CC and ITag vector of a completion: the address.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from cocotbext.pcie.core.tlp import CplStatus, MsgType, Tlp, TlpAt, TlpAttr, TlpTc, TlpType
from cocotbext.pcie.core.utils import PcieId

from emulator.rtl.layout import constants, struct

BEAT_BYTES: Final = 16
PAGE: Final = 4096
ROOT_ID: Final = PcieId(0, 0, 0)

_C = constants()
TX_HEADER: Final = struct("tx_header_t")
RX_HEADER: Final = struct("rx_header_t")
_WRITES = (TlpType.MEM_WRITE, TlpType.MEM_WRITE_64)
_READS = (TlpType.MEM_READ, TlpType.MEM_READ_64)


class Kind(IntEnum):
    """``tx_header_t.kind``."""

    WRITE = _C["TX_WRITE"]
    READ = _C["TX_READ"]
    TRANSLATION = _C["TX_TRANSLATION"]
    INV_CPL = _C["TX_INV_CPL"]


class AtsTlp(Tlp):  # type: ignore[misc]
    """A TLP of the library and what ATS adds.

    pasid: of its prefix, or None. time, number: cycle of its last beat at the device's port, and
    its place in the order of those; 0 unless the device sent it.
    """

    def __init__(self, tlp: Tlp | None = None) -> None:
        super().__init__(tlp)
        self.pasid: int | None = getattr(tlp, "pasid", None)
        self.time: int = getattr(tlp, "time", 0)
        self.number: int = getattr(tlp, "number", 0)

    @property
    def kind(self) -> Kind:
        """What it is, of the four kinds a device of ours sends."""
        if self.fmt_type in _WRITES:
            return Kind.WRITE
        if self.fmt_type in _READS:
            return Kind.TRANSLATION if self.at == TlpAt.TRANSLATE_REQ else Kind.READ
        return Kind.INV_CPL

    @property
    def translated(self) -> bool:
        """It uses an address that ATS gave."""
        return bool(self.at == TlpAt.TRANSLATED)

    @property
    def addr(self) -> int:
        """Memory request: address of the first byte."""
        return int(self.address) + int(self.get_first_be_offset())

    @property
    def size(self) -> int:
        """Memory request: bytes."""
        return int(self.get_be_byte_count())

    @property
    def payload(self) -> bytes:
        """Memory write: the bytes that are enabled."""
        first = self.get_first_be_offset()
        return bytes(self.data[first : first + self.size])

    @property
    def message(self) -> int:
        """Message: its code."""
        return int(self.last_be) << 4 | int(self.first_be)

    @property
    def itags(self) -> int:
        """Invalidate completion: the ITag vector."""
        return int(self.address) & 0xFFFF_FFFF

    @property
    def copies(self) -> int:
        """Invalidate completion: CC, 0 means 8."""
        return (int(self.address) >> 32 & 7) or 8

    def __str__(self) -> str:
        kind = self.kind
        if kind is Kind.INV_CPL:
            return f"#{self.number} {kind.name} itags {self.itags:#x} (cycle {self.time})"
        where = f"{self.addr:#x}+{self.size} tag {self.tag}"
        return f"#{self.number} {kind.name} at={int(self.at)} {where} (cycle {self.time})"


def from_device(header: int, data: bytes, time: int, number: int) -> AtsTlp:
    """What the device's port carried: ``tx_tuser``, and the bytes of its beats."""
    fields = TX_HEADER.unpack(header)
    tlp, kind = AtsTlp(), fields["kind"]
    tlp.time, tlp.number = time, number
    tlp.tc, tlp.tag = TlpTc(fields["tc"]), fields["tag"]
    tlp.attr = TlpAttr(TlpAttr.RO * fields["relaxed"] | TlpAttr.IDO * fields["id_order"])
    tlp.requester_id = PcieId.from_int(fields["requester"])
    tlp.pasid = fields["pasid"] if fields["pasid_valid"] else None
    if kind == Kind.INV_CPL:
        _message(tlp, TlpType.MSG_ID, MsgType.INVALIDATE_CPL)
        target, copies = fields["addr"] >> 16 & 0xFFFF, fields["addr"] >> 32 & 7
        tlp.completer_id = PcieId.from_int(target)
        tlp.address = (target << 16 | copies) << 32 | fields["itags"]
        return tlp
    addr, wide = fields["addr"], fields["addr"] > 0xFFFF_FFFF
    tlp.at = TlpAt(fields["at"])
    if kind == Kind.WRITE:
        tlp.fmt_type = _WRITES[wide]
        tlp.set_addr_be_data(addr, data[: fields["len"]])
    else:
        tlp.fmt_type = _READS[wide]
        tlp.set_addr_be(addr, fields["len"])
        tlp.ph = fields["no_write"]
    return tlp


def _message(tlp: AtsTlp, fmt_type: TlpType, code: MsgType) -> None:
    tlp.fmt_type = fmt_type
    tlp.last_be, tlp.first_be = code >> 4, code & 0xF


def to_device(tlp: AtsTlp) -> tuple[int, list[int]]:
    """What the device's port is to carry: ``rx_tuser``, and 16 bytes a beat, one at least."""
    fields = {"tc": int(tlp.tc), "tag": tlp.tag & 0xFF, "poisoned": int(bool(tlp.ep))}
    data = bytes(tlp.data)
    if tlp.is_completion():
        data = data[tlp.lower_address & 3 :][: tlp.byte_count]
        fields |= {"kind": _C["RX_CPL"], "status": int(tlp.status), "byte_count": tlp.byte_count}
    else:
        pasid = getattr(tlp, "pasid", None)
        fields |= {"kind": _C["RX_INV_REQ"], "itag": tlp.tag, "requester": int(tlp.requester_id)}
        fields |= {"pasid_valid": int(pasid is not None), "pasid": pasid or 0}
    padded = data.ljust(max(1, -(-len(data) // BEAT_BYTES)) * BEAT_BYTES, b"\0")
    starts = range(0, len(padded), BEAT_BYTES)
    beats = [int.from_bytes(padded[at : at + BEAT_BYTES], "little") for at in starts]
    return RX_HEADER.pack(len=len(data), **fields), beats


def completion(
    request: AtsTlp,
    data: bytes,
    byte_count: int,
    status: CplStatus = CplStatus.SC,
    poison: bool = False,
) -> AtsTlp:
    """Answers ``request`` with its bytes from the ``byte_count``-th last on.

    byte_count: bytes that remain, those of ``data`` included.
    """
    tlp = AtsTlp.create_completion_for_tlp(request, ROOT_ID, bool(data), status)
    tlp.byte_count, tlp.ep = byte_count, poison
    tlp.lower_address = (request.addr + request.size - byte_count) & 0x7F
    lead = tlp.lower_address & 3
    if data:
        tlp.set_data(bytes(lead) + data + bytes(-(lead + len(data)) % 4))
    return _typed(tlp)


def _typed(tlp: Any) -> AtsTlp:  # noqa: ANN401
    assert isinstance(tlp, AtsTlp)
    return tlp


def invalidate(
    itag: int, body: bytes, requester: int, pasid: int | None, tc: int, target: int
) -> AtsTlp:
    """An invalidate request to the function ``target``, with these eight bytes of payload."""
    tlp = AtsTlp()
    _message(tlp, TlpType.MSG_DATA_ID, MsgType.INVALIDATE_REQ)
    tlp.tag, tlp.tc, tlp.pasid = itag, TlpTc(tc), pasid
    tlp.requester_id, tlp.completer_id = PcieId.from_int(requester), PcieId.from_int(target)
    tlp.set_data(body)
    return tlp


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
