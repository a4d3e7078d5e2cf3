# SPDX-License-Identifier: MIT
"""The wire format of vfio-user: every message is declared here, once.

Source: QEMU's docs/interop/vfio-user.rst, section "Protocol Specification"; flags and indices whose
values that text leaves to VFIO are those of <linux/vfio.h>. All integers are in host byte order
("Protocol Specification", first paragraph). Declarations are `construct` structures; the hot ones
also exist as a `struct.Struct` derived from the declaration by :func:`flat`.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

from construct import (
    Array,
    Bytes,
    GreedyBytes,
    GreedyRange,
    Int8un,
    Int16un,
    Int32un,
    Int64un,
    Optional,
    Struct,
    this,
)


class Command(IntEnum):
    """Message commands (section "Commands"); 14 is what older clients used for dirty pages."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    DIRTY_PAGES = 14
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


# Header flags (section "Header").
TYPE_MASK = 0xF
TYPE_COMMAND = 0x0
TYPE_REPLY = 0x1
NO_REPLY = 0x10
ERROR = 0x20

PROTOCOL_MAJOR = 0
PROTOCOL_MINOR = 0


class DmaMapFlag(IntFlag):
    """DMA_MAP flags: what the device may do with the range."""

    READ = 1 << 0
    WRITE = 1 << 1


class DmaUnmapFlag(IntFlag):
    """DMA_UNMAP flags: the specification leaves them unused, the clients use VFIO's."""

    GET_DIRTY_BITMAP = 1 << 0
    ALL = 1 << 1
    VADDR = 1 << 2


class DeviceFlag(IntFlag):
    """DEVICE_GET_INFO flags."""

    RESET = 1 << 0
    PCI = 1 << 1


class RegionFlag(IntFlag):
    """DEVICE_GET_REGION_INFO flags."""

    READ = 1 << 0
    WRITE = 1 << 1
    MMAP = 1 << 2
    CAPS = 1 << 3


class IrqFlag(IntFlag):
    """DEVICE_GET_IRQ_INFO flags."""

    EVENTFD = 1 << 0
    MASKABLE = 1 << 1
    AUTOMASKED = 1 << 2
    NORESIZE = 1 << 3


class IrqSetFlag(IntFlag):
    """DEVICE_SET_IRQS flags: one of the three DATA flags with one of the three ACTION flags."""

    DATA_NONE = 1 << 0
    DATA_BOOL = 1 << 1
    DATA_EVENTFD = 1 << 2
    ACTION_MASK = 1 << 3
    ACTION_UNMASK = 1 << 4
    ACTION_TRIGGER = 1 << 5


class PciRegion(IntEnum):
    """Indices of the regions of a PCI device."""

    BAR0 = 0
    BAR1 = 1
    BAR2 = 2
    BAR3 = 3
    BAR4 = 4
    BAR5 = 5
    ROM = 6
    CONFIG = 7
    VGA = 8


class PciIrq(IntEnum):
    """Indices of the interrupt types of a PCI device."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


REGION_CAP_SPARSE_MMAP = 1

HEADER_DECL = Struct(
    "msg_id" / Int16un,
    "command" / Int16un,
    "size" / Int32un,
    "flags" / Int32un,
    "error" / Int32un,
)

# Version data is JSON, with its terminating NUL, or absent.
VERSION_DECL = Struct("major" / Int16un, "minor" / Int16un, "data" / GreedyBytes)

DMA_MAP_DECL = Struct(
    "argsz" / Int32un,
    "flags" / Int32un,
    "offset" / Int64un,
    "address" / Int64un,
    "size" / Int64un,
)

DMA_UNMAP_DECL = Struct(
    "argsz" / Int32un,
    "flags" / Int32un,
    "address" / Int64un,
    "size" / Int64un,
)

DEVICE_INFO_DECL = Struct(
    "argsz" / Int32un,
    "flags" / Int32un,
    "num_regions" / Int32un,
    "num_irqs" / Int32un,
)

SPARSE_AREA_DECL = Struct("offset" / Int64un, "size" / Int64un)

SPARSE_MMAP_DECL = Struct(
    "id" / Int16un,
    "version" / Int16un,
    "next" / Int32un,
    "nr_areas" / Int32un,
    "reserved" / Int32un,
    "areas" / Array(this.nr_areas, SPARSE_AREA_DECL),
)

REGION_INFO_DECL = Struct(
    "argsz" / Int32un,
    "flags" / Int32un,
    "index" / Int32un,
    "cap_offset" / Int32un,
    "size" / Int64un,
    "offset" / Int64un,
)

REGION_INFO_REPLY_DECL = Struct("info" / REGION_INFO_DECL, "sparse" / Optional(SPARSE_MMAP_DECL))

REGION_IO_FDS_DECL = Struct(
    "argsz" / Int32un,
    "flags" / Int32un,
    "index" / Int32un,
    "count" / Int32un,
)

IRQ_INFO_DECL = Struct(
    "argsz" / Int32un,
    "flags" / Int32un,
    "index" / Int32un,
    "count" / Int32un,
)

IRQ_SET_DECL = Struct(
    "argsz" / Int32un,
    "flags" / Int32un,
    "index" / Int32un,
    "start" / Int32un,
    "count" / Int32un,
)

IRQ_SET_REQUEST_DECL = Struct("fixed" / IRQ_SET_DECL, "bools" / GreedyRange(Int8un))

REGION_ACCESS_DECL = Struct("offset" / Int64un, "region" / Int32un, "count" / Int32un)
REGION_DATA_DECL = Struct("access" / REGION_ACCESS_DECL, "data" / GreedyBytes)

DMA_ACCESS_DECL = Struct("address" / Int64un, "count" / Int64un)
DMA_DATA_DECL = Struct("access" / DMA_ACCESS_DECL, "data" / GreedyBytes)

# Earlier sources of QEMU have a 32-bit count with the data right behind it: see DmaLayout.
DMA_ACCESS_32_DECL = Struct("address" / Int64un, "count" / Int32un)

WRITE_ONE_DECL = Struct(
    "offset" / Int64un,
    "region" / Int32un,
    "count" / Int32un,
    "data" / Bytes(8),
)

WRITE_MULTI_DECL = Struct("wr_cnt" / Int64un, "wrs" / Array(this.wr_cnt, WRITE_ONE_DECL))
WRITE_MULTI_COUNT_DECL = Struct("wr_cnt" / Int64un)

DEVICE_FEATURE_DECL = Struct("argsz" / Int32un, "flags" / Int32un)


def flat(*declarations: Struct) -> struct.Struct:
    """The `struct.Struct` of fixed-size declarations laid out one after the other, unpadded."""
    formats = []
    for declaration in declarations:
        for field in declaration.subcons:
            inner = field.subcon
            formats.append(
                f"{inner.length}s" if isinstance(inner, type(Bytes(1))) else inner.fmtstr[1:]
            )
    return struct.Struct("=" + "".join(formats))


HEADER = flat(HEADER_DECL)
DMA_MAP = flat(DMA_MAP_DECL)
DMA_UNMAP = flat(DMA_UNMAP_DECL)
DEVICE_INFO = flat(DEVICE_INFO_DECL)
REGION_INFO = flat(REGION_INFO_DECL)
REGION_IO_FDS = flat(REGION_IO_FDS_DECL)
IRQ_INFO = flat(IRQ_INFO_DECL)
IRQ_SET = flat(IRQ_SET_DECL)
REGION_ACCESS = flat(REGION_ACCESS_DECL)
REGION_REPLY = flat(HEADER_DECL, REGION_ACCESS_DECL)
DMA_UNMAP_REPLY = flat(HEADER_DECL, DMA_UNMAP_DECL)
DMA_ACCESS = flat(DMA_ACCESS_DECL)
DMA_ACCESS_32 = flat(DMA_ACCESS_32_DECL)
WRITE_ONE = flat(WRITE_ONE_DECL)
WRITE_MULTI_COUNT = flat(WRITE_MULTI_COUNT_DECL)

HEADER_SIZE: int = HEADER.size


def encode(msg_id: int, command: int, payload: bytes, flags: int = 0, error: int = 0) -> bytes:
    """A whole message: header and payload."""
    return HEADER.pack(msg_id, command, HEADER_SIZE + len(payload), flags, error) + payload


def reply(msg_id: int, command: int, payload: bytes = b"") -> bytes:
    """The reply to a command."""
    return encode(msg_id, command, payload, TYPE_REPLY)


def error_reply(msg_id: int, command: int, errno: int) -> bytes:
    """The reply to a command that was refused: only a header (section "Header")."""
    return HEADER.pack(msg_id, command, HEADER_SIZE, TYPE_REPLY | ERROR, errno)
