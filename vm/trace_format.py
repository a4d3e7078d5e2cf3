# SPDX-License-Identifier: MIT
"""What the guest's tracepoints say, from their own `format` files: raw data to trace events.

The events of the DMA API, of page pools and of the IOMMU's page tables are the kernel's own (6.12
has all of them); where an skb head is built comes from a probe on napi_build_skb(), and what the
stack holds from our sink. Names and
offsets of fields are read from the running kernel: a field that moved is found, one that is gone is
an error, an event that a later kernel renamed has a line of its own here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from emulator.ledger.traced import Traced, TraceEvent
from vm.errors import TraceError
from vm.ring_page import RawEvent

PROBE = "dmabed/head"
PROBE_TEXT = f"p:{PROBE} napi_build_skb data=$arg1"
#: Physical addresses below this are offsets in guest memory on the machine we boot; the kernel's
#: linear map begins at a multiple of it, so the low bits of a linear address are the physical one.
PHYSICAL_MAX = 1 << 30

_NAME = re.compile(r"^name: (\S+)\nID: (\d+)$", re.M)
_FIELD = re.compile(r"^\tfield:(.*?)(\w+)(?:\[\d*\])?;\toffset:(\d+);\tsize:(\d+);", re.M)
_INTEGERS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
_TYPE = struct.Struct("<H")  # common_type, the first field of all events
_LOCATION = struct.Struct("<I")  # __data_loc: offset, and length << 16


class Shape(NamedTuple):
    """An event we want: what it means, and its fields of device, address, size and physical one."""

    kind: Traced
    device: str = ""
    iova: str = ""
    size: str = ""
    phys: str = ""


_DEVICE = "device"
SHAPES: Mapping[str, Shape] = {
    "dma/dma_map_page": Shape(Traced.MAPPED, _DEVICE, "dma_addr", "size", "phys_addr"),
    "dma/dma_map_phys": Shape(Traced.MAPPED, _DEVICE, "dma_addr", "size", "phys_addr"),
    "dma/dma_unmap_page": Shape(Traced.UNMAPPED, _DEVICE, "addr", "size"),
    "dma/dma_unmap_phys": Shape(Traced.UNMAPPED, _DEVICE, "addr", "size"),
    "dma/dma_alloc": Shape(Traced.ALLOCATED, _DEVICE, "dma_addr", "size"),
    "dma/dma_free": Shape(Traced.FREEING, _DEVICE, "dma_addr", "size"),
    "iommu/map": Shape(Traced.TABLE, "", "iova", "size", "paddr"),
    "iommu/unmap": Shape(Traced.CLEARED, "", "iova", "size"),
    "page_pool/page_pool_state_hold": Shape(Traced.HOLD, "", "pfn", phys="pool"),
    "page_pool/page_pool_state_release": Shape(Traced.RELEASE, "", "pfn", phys="pool"),
    PROBE: Shape(Traced.HEAD, "", "data"),
    "dmabed_sink/sink_hold": Shape(Traced.KEPT, "", "phys", "len"),
    "dmabed_sink/sink_release": Shape(Traced.LET_GO, "", "phys", "len"),
}
#: Of our own consumer of frames (driver/linux/sink): there once its module is loaded.
OF_THE_SINK = frozenset({"dmabed_sink/sink_hold", "dmabed_sink/sink_release"})
#: Without one of each the trace says too little to be judged.
NEEDED = (
    ("dma/dma_map_page", "dma/dma_map_phys"),
    ("dma/dma_unmap_page", "dma/dma_unmap_phys"),
    ("dma/dma_alloc",),
    ("dma/dma_free",),
    ("iommu/map",),
    ("iommu/unmap",),
    ("page_pool/page_pool_state_hold",),
    ("page_pool/page_pool_state_release",),
    (PROBE,),
)

Number = Callable[[memoryview], int]
Told = tuple[str | None, TraceEvent]
"""An event and the device it names (its PCI address; None: the event names none)."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns the data of one kind of event into a :class:`TraceEvent`."""

    kind: Traced
    device: Callable[[memoryview], str | None]
    iova: Number
    size: Number
    phys: Number

    def read(self, event: RawEvent) -> Told:
        data = event.data
        place = self.iova(data), self.size(data), self.phys(data)
        return self.device(data), TraceEvent(event.time_ns, self.kind, *place)


class TraceFormat:
    """The events of one kernel.

    formats: event (as in :data:`SHAPES`) to the text of its `format` file.

    Raises:
        TraceError: an event that is needed, or a field of one, is not there.
    """

    def __init__(self, formats: Mapping[str, str]) -> None:
        for names in NEEDED:
            if not formats.keys() & set(names):
                raise TraceError(
                    f"this kernel has no tracepoint {' or '.join(names)}: it needs Linux 6.12 or "
                    "newer"
                )
        self._readers = dict(_reader(name, text) for name, text in formats.items())

    def read(self, event: RawEvent) -> Told | None:
        """What a raw event says; None: it is none of ours.

        Raises:
            TraceError: it is shorter than its format says.
        """
        try:
            reader = self._readers.get(_TYPE.unpack_from(event.data)[0])
            return None if reader is None else reader.read(event)
        except struct.error as error:
            raise TraceError(f"an event of {len(event.data)} bytes: {error}") from error


def _reader(name: str, text: str) -> tuple[int, _Reader]:
    shape = SHAPES[name]
    found = _NAME.search(text)
    if found is None:
        raise TraceError(f"{name}: its format file has no name and ID")
    fields = {field: (int(at), int(size)) for _, field, at, size in _FIELD.findall(text)}

    def number(field: str) -> Number:
        return _number(name, fields, field) if field else lambda data: 0

    device = _text(name, fields, shape.device) if shape.device else lambda data: None
    iova = number(shape.iova)
    if shape.kind is Traced.HEAD:
        iova = _physical(iova)
    return int(found[2]), _Reader(shape.kind, device, iova, number(shape.size), number(shape.phys))


def _physical(linear: Number) -> Number:
    return lambda data: linear(data) % PHYSICAL_MAX


def _place(event: str, fields: Mapping[str, tuple[int, int]], field: str) -> tuple[int, int]:
    if field not in fields:
        raise TraceError(f"{event} has no field {field}; it has {', '.join(fields)}")
    return fields[field]


def _number(event: str, fields: Mapping[str, tuple[int, int]], field: str) -> Number:
    at, size = _place(event, fields, field)
    if size not in _INTEGERS:
        raise TraceError(f"{event}: field {field} of {size} bytes is no integer")
    unpack = struct.Struct(_INTEGERS[size]).unpack_from
    return lambda data: int(unpack(data, at)[0])


def _text(
    event: str, fields: Mapping[str, tuple[int, int]], field: str
) -> Callable[[memoryview], str | None]:
    at, _ = _place(event, fields, field)

    def read(data: memoryview) -> str:
        (where,) = _LOCATION.unpack_from(data, at)
        begin, length = where & 0xFFFF, where >> 16
        return bytes(data[begin : begin + length]).rstrip(b"\0").decode(errors="replace")

    return read
