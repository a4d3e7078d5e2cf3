# SPDX-License-Identifier: GPL-2.0 OR MIT
"""Descriptors and completions of the NIC: the one place where their layout is declared.

The numpy dtypes used by the model, the construct structs used by tools, the C structs of the kernel
driver, the SystemVerilog package and the reference page all come from :data:`LAYOUTS`.
Everything is little endian; every entry is 16 bytes and never crosses a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import construct
import numpy as np


@dataclass(frozen=True)
class Bit:
    """A flag within a member: ``name`` is upper case, ``bit`` counts from 0."""

    name: str
    bit: int
    doc: str


@dataclass(frozen=True)
class Member:
    """One member of an entry: ``width`` in bits (16, 32 or 64)."""

    name: str
    width: int
    doc: str
    bits: tuple[Bit, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One kind of ring entry; members follow each other without padding."""

    name: str
    doc: str
    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        """Bytes of one entry."""
        return sum(m.width for m in self.members) // 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy structured dtype, little endian, packed."""
        return np.dtype([(m.name, f"<u{m.width // 8}") for m in self.members])

    def place(self, name: str) -> tuple[int, int]:
        """Where the member ``name`` is: index of the 32-bit word, and its lowest bit there."""
        widths = {member.name: member.width for member in self.members}
        names = list(widths)
        before = sum(widths[earlier] for earlier in names[: names.index(name)])
        return before // 32, before % 32

    @property
    def struct(self) -> construct.Struct[Any, Any]:
        """The construct declaration."""
        ints = {16: construct.Int16ul, 32: construct.Int32ul, 64: construct.Int64ul}
        return construct.Struct(*(m.name / ints[m.width] for m in self.members))


RX_DESC = Layout(
    "rx_desc",
    "A buffer the device may fill.",
    (
        Member("addr", 64, "IOVA of the first byte the device may write"),
        Member("len", 16, "bytes the device may write from there; 0 is refused"),
        Member("id", 16, "chosen by the driver, returned in the completion"),
        Member("rsvd", 32, "zero"),
    ),
)

TX_DESC = Layout(
    "tx_desc",
    "A piece of a frame to send.",
    (
        Member("addr", 64, "IOVA of the first byte"),
        Member("len", 16, "bytes from there; 0 is refused"),
        Member("id", 16, "of the last piece: returned in the completion"),
        Member("flags", 32, "see the bits", (Bit("EOP", 0, "last piece of the frame"),)),
    ),
)

COMPLETION = Layout(
    "completion",
    "Written by the device: one per receive descriptor, one per transmitted frame. "
    "The status word is written last; its phase bit tells new from old.",
    (
        Member("hash", 32, "receive: flow hash; transmit: 0"),
        Member("len", 16, "receive: bytes written to this buffer; transmit: descriptors used"),
        Member("id", 16, "of the descriptor (transmit: of the last one)"),
        Member("frame_len", 32, "bytes of the whole frame"),
        Member(
            "status",
            32,
            "see the bits",
            (
                Bit("PHASE", 0, "1 in the first pass through the ring, then 0, 1, ..."),
                Bit("EOP", 1, "last buffer of the frame"),
                Bit("SOP", 2, "first buffer of the frame"),
                Bit(
                    "ERROR",
                    3,
                    "the frame is not to be used: a DMA for it was refused; set in all its buffers",
                ),
            ),
        ),
    ),
)

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {layout.name: layout for layout in (RX_DESC, TX_DESC, COMPLETION)}
)
