# SPDX-License-Identifier: MIT
"""The codec: sizes and offsets of the specification, round trips, declarations against structs."""

import struct

import pytest
from construct import Int16un, Int32un, Int64un
from hypothesis import given
from hypothesis import strategies as st

from emulator.vfio_user import messages as wire

DECLARED = {
    "HEADER": 16,
    "DMA_MAP": 32,
    "DMA_UNMAP": 24,
    "DEVICE_INFO": 16,
    "REGION_INFO": 32,
    "REGION_IO_FDS": 16,
    "IRQ_INFO": 16,
    "IRQ_SET": 20,
    "REGION_ACCESS": 16,
    "DMA_ACCESS": 16,
    "DMA_ACCESS_32": 12,
    "WRITE_ONE": 24,
    "WRITE_MULTI_COUNT": 8,
}
BITS = {id(Int16un): 16, id(Int32un): 32, id(Int64un): 64}


def fields(declaration):
    """A strategy for values of every field of a fixed-size declaration, in their order."""
    names = [field.name for field in declaration.subcons]
    values = [
        st.integers(0, (1 << BITS[id(field.subcon)]) - 1)
        if id(field.subcon) in BITS
        else st.binary(min_size=8, max_size=8)
        for field in declaration.subcons
    ]
    return st.tuples(*values).map(lambda drawn: dict(zip(names, drawn, strict=True)))


@pytest.mark.parametrize(("name", "size"), DECLARED.items())
def test_every_message_has_the_size_of_the_specification(name, size):
    assert getattr(wire, name).size == size
    assert getattr(wire, f"{name}_DECL").sizeof() == size


@pytest.mark.parametrize("name", DECLARED)
@given(data=st.data())
def test_the_fast_struct_packs_what_the_declaration_builds(name, data):
    declaration, flat = getattr(wire, f"{name}_DECL"), getattr(wire, name)
    values = data.draw(fields(declaration))
    packed = flat.pack(*values.values())
    assert packed == declaration.build(values)
    parsed = declaration.parse(packed)
    assert {key: parsed[key] for key in values} == values
    assert flat.unpack(packed) == tuple(values.values())


def test_the_header_is_laid_out_as_specified():
    packed = wire.HEADER_DECL.build(
        {"msg_id": 0x1111, "command": 0x2222, "size": 0x33333333, "flags": 0x44, "error": 0x55}
    )
    assert struct.unpack_from("=H", packed, 0) == (0x1111,)
    assert struct.unpack_from("=H", packed, 2) == (0x2222,)
    assert struct.unpack_from("=I", packed, 4) == (0x33333333,)
    assert struct.unpack_from("=I", packed, 8) == (0x44,)
    assert struct.unpack_from("=I", packed, 12) == (0x55,)


def test_offsets_within_a_map_request_are_those_specified():
    packed = wire.DMA_MAP_DECL.build({"argsz": 1, "flags": 2, "offset": 3, "address": 4, "size": 5})
    assert struct.unpack_from("=Q", packed, 8) == (3,)
    assert struct.unpack_from("=Q", packed, 16) == (4,)
    assert struct.unpack_from("=Q", packed, 24) == (5,)


@given(areas=st.lists(fields(wire.SPARSE_AREA_DECL), max_size=5))
def test_sparse_areas_survive_the_round_trip(areas):
    fixed = {"id": 1, "version": 1, "next": 0, "reserved": 0}
    packed = wire.SPARSE_MMAP_DECL.build({**fixed, "nr_areas": len(areas), "areas": areas})
    assert len(packed) == 16 + 16 * len(areas)
    parsed = wire.SPARSE_MMAP_DECL.parse(packed)
    assert [{"offset": area.offset, "size": area.size} for area in parsed.areas] == areas


@given(writes=st.lists(fields(wire.WRITE_ONE_DECL), max_size=5))
def test_coalesced_writes_survive_the_round_trip(writes):
    packed = wire.WRITE_MULTI_DECL.build({"wr_cnt": len(writes), "wrs": writes})
    parsed = wire.WRITE_MULTI_DECL.parse(packed)
    assert [{key: write[key] for key in writes[0]} for write in parsed.wrs] == writes


@given(
    msg_id=st.integers(0, 0xFFFF),
    command=st.integers(0, 0xFFFF),
    payload=st.binary(max_size=64),
    errno=st.integers(1, 4095),
)
def test_replies_carry_the_identity_of_the_command(msg_id, command, payload, errno):
    good = wire.reply(msg_id, command, payload)
    assert wire.HEADER.unpack_from(good) == (msg_id, command, 16 + len(payload), 1, 0)
    assert good[16:] == payload
    bad = wire.error_reply(msg_id, command, errno)
    assert wire.HEADER.unpack(bad) == (msg_id, command, 16, 0x21, errno)
