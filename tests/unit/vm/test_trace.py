# SPDX-License-Identifier: MIT
"""The guest's trace: pages of the ring buffer, formats of Linux 6.12, batches between two ticks."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.ledger.guest_clock import Tick
from emulator.ledger.traced import Traced, TraceEvent
from vm.errors import TraceError
from vm.ring_page import read_page
from vm.trace import TraceAssembler
from vm.trace_format import NEEDED, SHAPES, TraceFormat

NIC, OTHER = "0000:01:00.0", "0000:02:00.0"
MISSED, STORED = 1 << 31, 1 << 30
_COMMON = (
    ("unsigned short common_type", 0, 2),
    ("unsigned char common_flags", 2, 1),
    ("unsigned char common_preempt_count", 3, 1),
    ("int common_pid", 4, 4),
)
_DEVICE = ("__data_loc char[] device", 8, 4)
FIELDS = {
    "dma/dma_map_page": (
        _DEVICE, ("u64 phys_addr", 16, 8), ("u64 dma_addr", 24, 8), ("size_t size", 32, 8),
        ("enum dma_data_direction dir", 40, 4), ("unsigned long attrs", 48, 8),
    ),
    "dma/dma_unmap_page": (_DEVICE, ("u64 addr", 16, 8), ("size_t size", 24, 8)),
    "dma/dma_alloc": (_DEVICE, ("u64 dma_addr", 24, 8), ("size_t size", 32, 8)),
    "dma/dma_free": (_DEVICE, ("u64 dma_addr", 24, 8), ("size_t size", 32, 8)),
    "iommu/map": (("u64 iova", 8, 8), ("u64 paddr", 16, 8), ("size_t size", 24, 8)),
    "iommu/unmap": (("u64 iova", 8, 8), ("size_t size", 16, 8), ("size_t unmapped_size", 24, 8)),
    "page_pool/page_pool_state_hold": (
        ("const struct page_pool * pool", 8, 8), ("unsigned long netmem", 16, 8),
        ("u32 hold", 24, 4), ("unsigned long pfn", 32, 8),
    ),
    "page_pool/page_pool_state_release": (
        ("const struct page_pool * pool", 8, 8), ("unsigned long pfn", 32, 8),
    ),
    "dmabed/head": (("unsigned long __probe_ip", 8, 8), ("u64 data", 16, 8)),
    "dmabed_sink/sink_hold": (("u64 phys", 8, 8), ("u32 len", 16, 4)),
    "dmabed_sink/sink_release": (("u64 phys", 8, 8), ("u32 len", 16, 4)),
}  # fmt: skip
IDS = {name: 300 + at for at, name in enumerate(FIELDS)}


def format_text(name: str) -> str:
    fields = "".join(
        f"\tfield:{field};\toffset:{at};\tsize:{size};\tsigned:0;\n"
        for field, at, size in (*_COMMON, *FIELDS[name])
    )
    return f"name: {name.partition('/')[2]}\nID: {IDS[name]}\nformat:\n{fields}\nprint fmt: x\n"


FORMATS = TraceFormat({name: format_text(name) for name in FIELDS})


def record(name: str, device: str = "", **values: int) -> bytes:
    """An event's data, as the kernel writes it."""
    data = bytearray(56)
    struct.pack_into("<H", data, 0, IDS[name])
    for field, at, size in FIELDS[name]:
        word = field.rpartition(" ")[2]
        if word == "device":
            struct.pack_into("<I", data, at, 56 | (len(device) + 1) << 16)
        else:
            data[at : at + size] = values.get(word, 0).to_bytes(size, "little")
    return bytes(data) + (device.encode() + b"\0" if device else b"")


def page(time_ns: int, *events: tuple[int, bytes], lost: int = 0, stored: bool = True) -> bytes:
    """A page whose events are (ns since the one before, data)."""
    body = b""
    for delta, data in events:
        data += bytes(-len(data) % 4)
        if delta >> 27:
            body += struct.pack("<II", 30 | (delta & 0x7FFFFFF) << 5, delta >> 27)
            delta = 0
        if len(data) <= 112:
            body += struct.pack("<I", len(data) // 4 | delta << 5) + data
        else:
            body += struct.pack("<II", delta << 5, len(data) + 4) + data
    flags = (MISSED | (STORED if stored else 0)) if lost else 0
    number = struct.pack("<Q", lost) if lost and stored else b""
    return struct.pack("<QQ", time_ns, len(body) | flags) + body + number


@given(
    begin=st.integers(0, 1 << 60),
    events=st.lists(
        st.tuples(st.integers(0, 1 << 40), st.binary(min_size=8, max_size=300)), max_size=30
    ),
    lost=st.integers(0, 1 << 40),
)
def test_event_is_read_at_another_time_or_with_other_bytes(begin, events, lost):
    found = read_page(page(begin, *events, lost=lost))
    assert found.lost == lost
    for (time_ns, data), (delta, sent) in zip(found.events, events, strict=True):
        begin += delta
        assert time_ns == begin
        assert bytes(data) == sent + bytes(-len(sent) % 4)


@given(st.binary(max_size=200), st.integers(0, 1 << 40))
def test_garbage_for_a_page_fails_otherwise_than_by_name(garbage, time_ns):
    for text in (garbage, struct.pack("<QQ", time_ns, len(garbage)) + garbage):
        with contextlib.suppress(TraceError):
            read_page(text)


def test_page_that_is_cut_off_passes_for_a_whole_one():
    whole = page(5, (1, bytes(40)), (1, bytes(40)))
    for size in range(len(whole)):
        with pytest.raises(TraceError):
            read_page(whole[:size])


def test_padding_and_discarded_events_are_taken_for_events():
    body = struct.pack("<II", 29 | 7 << 5, 12) + bytes(8)  # discarded: 12 bytes with their length
    body += struct.pack("<I", 1 | 3 << 5) + b"abcd"
    body += struct.pack("<I", 29) + b"\xff" * 20  # the rest of the page
    found = read_page(struct.pack("<QQ", 100, len(body)) + body)
    assert [(e.time_ns, bytes(e.data)) for e in found.events] == [(103, b"abcd")]


def test_absolute_stamp_loses_the_upper_bits_of_the_time():
    now = (5 << 59) + (77 << 27) + 3
    body = struct.pack("<II", 31 | 3 << 5, 77) + struct.pack("<I", 1 | 4 << 5) + b"abcd"
    found = read_page(struct.pack("<QQ", 5 << 59, len(body)) + body)
    assert [e.time_ns for e in found.events] == [now + 4]


def test_loss_without_a_number_passes_for_none():
    assert read_page(page(5, (1, bytes(8)), lost=9, stored=False)).lost == 1


LIFE = (
    (1, record("iommu/map", iova=0xFFFFB000, paddr=0x4D61000, size=4096)),
    (1, record("dma/dma_map_page", NIC, dma_addr=0xFFFFB040, size=3712, phys_addr=0x4D61040)),
    (1, record("page_pool/page_pool_state_hold", pool=77, pfn=0x4D61)),
    (1, record("dmabed/head", data=0xFFFF888005CB6000)),
    (1, record("dma/dma_unmap_page", OTHER, addr=0xFFFFB040, size=3712)),
    (1, record("iommu/unmap", iova=0xFFFFB000, size=4096)),
    (1, record("page_pool/page_pool_state_release", pool=77, pfn=0x4D61)),
    (1, record("dma/dma_alloc", NIC, dma_addr=0xFFFFF000, size=4096)),
    (1, record("dma/dma_free", NIC, dma_addr=0xFFFFC000, size=8192)),
    (1, record("page_pool/page_pool_state_hold", pool=78, pfn=0x1234)),
    (1, record("dmabed_sink/sink_hold", phys=0x5CB6040, len=1514)),
    (1, record("dmabed_sink/sink_release", phys=0x5CB6040, len=1514)),
)


def test_event_of_the_kernel_is_misread():
    assembler = TraceAssembler(FORMATS)
    assembler.page(0, page(1000, *LIFE, (1, struct.pack("<HHI", 9, 0, 0))))
    batch = assembler.drained(Tick(0, 2000, 1))
    assert batch.events == [
        (None, TraceEvent(1001, Traced.TABLE, 0xFFFFB000, 4096, 0x4D61000)),
        (NIC, TraceEvent(1002, Traced.MAPPED, 0xFFFFB040, 3712, 0x4D61040)),
        (NIC, TraceEvent(1003, Traced.HOLD, 0x4D61, 0, 77)),
        (None, TraceEvent(1004, Traced.HEAD, 0x5CB6000)),
        (OTHER, TraceEvent(1005, Traced.UNMAPPED, 0xFFFFB040, 3712)),
        (None, TraceEvent(1006, Traced.CLEARED, 0xFFFFB000, 4096)),
        (NIC, TraceEvent(1007, Traced.RELEASE, 0x4D61, 0, 77)),
        (NIC, TraceEvent(1008, Traced.ALLOCATED, 0xFFFFF000, 4096)),
        (NIC, TraceEvent(1009, Traced.FREEING, 0xFFFFC000, 8192)),
        ("", TraceEvent(1010, Traced.HOLD, 0x1234, 0, 78)),
        (None, TraceEvent(1011, Traced.KEPT, 0x5CB6040, 1514)),
        (None, TraceEvent(1012, Traced.LET_GO, 0x5CB6040, 1514)),
    ]
    assert assembler.read == 13
    assert [event.kind for event in batch.of(OTHER)] == [
        Traced.TABLE, Traced.HEAD, Traced.UNMAPPED, Traced.CLEARED, Traced.KEPT, Traced.LET_GO,
    ]  # fmt: skip


def test_events_of_several_processors_come_out_of_order():
    assembler = TraceAssembler(FORMATS)
    unmap = record("iommu/unmap", iova=4096, size=4096)
    assembler.page(0, page(100, (0, unmap), (50, unmap)))
    assembler.page(1, page(120, (0, unmap), (500, unmap), lost=4))
    first = assembler.drained(Tick(0, 300, 1))
    assembler.page(0, page(310, (0, unmap), lost=3))
    second = assembler.drained(Tick(2, 700, 3))
    times = [[event.time_ns for _, event in batch.events] for batch in (first, second)]
    assert times == [[100, 120, 150], [310, 620]]
    assert (first.lost, second.lost, assembler.lost) == (4, 3, 7)


@pytest.mark.parametrize("names", NEEDED)
def test_kernel_without_a_tracepoint_is_refused_by_its_name(names):
    formats = {name: format_text(name) for name in FIELDS if name not in names}
    with pytest.raises(TraceError, match=names[0]):
        TraceFormat(formats)


def test_field_that_a_later_kernel_took_away_is_named():
    formats = {name: format_text(name) for name in FIELDS}
    formats["iommu/map"] = formats["iommu/map"].replace(" paddr;", " physical;")
    with pytest.raises(TraceError, match="iommu/map has no field paddr"):
        TraceFormat(formats)


def test_event_shorter_than_its_format_is_refused():
    assembler = TraceAssembler(FORMATS)
    with pytest.raises(TraceError, match="an event of 8 bytes"):
        assembler.page(0, page(1, (1, record("iommu/map")[:8])))


def test_every_shape_but_renamed_ones_is_tried_here():
    assert {name for name in SHAPES if not name.endswith("_phys")} == set(FIELDS)
