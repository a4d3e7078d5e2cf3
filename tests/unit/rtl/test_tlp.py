# SPDX-License-Identifier: MIT
"""TLPs between the RTL's ports and cocotbext-pcie, and the ranges that invalidates name."""

from __future__ import annotations

import pytest
from cocotbext.pcie.core.tlp import CplStatus, Tlp
from hypothesis import given
from hypothesis import strategies as st

from emulator.rtl.agent import EVERYTHING
from emulator.rtl.ats_host import blocks
from emulator.rtl.host import RCB
from emulator.rtl.tlp import (
    PAGE,
    RX_HEADER,
    TX_HEADER,
    AtsTlp,
    Kind,
    coded_range,
    completion,
    from_device,
    invalidate,
    invalidate_body,
    to_device,
)

PLACES = st.tuples(
    st.integers(0, (1 << 52) - 1), st.integers(0, PAGE - 1), st.integers(1, 512)
).map(lambda p: ((p[0] << 12) + p[1], min(p[2], PAGE - p[1])))


def read_at(addr: int, size: int) -> AtsTlp:
    header = TX_HEADER.pack(kind=Kind.READ, at=2, addr=addr, len=size, tag=9, requester=0x0208)
    return from_device(header, b"", 5, 1)


@given(PLACES, st.binary(min_size=512, max_size=512))
def test_a_write_of_odd_bytes_loses_or_adds_some_on_the_way_to_the_library(place, data):
    addr, size = place
    header = TX_HEADER.pack(kind=Kind.WRITE, at=2, addr=addr, len=size, requester=0x0208)
    tlp = from_device(header, data, 5, 1)
    assert tlp.check()
    wire = AtsTlp(Tlp.unpack(bytes(tlp.pack())))
    assert (wire.kind, wire.addr, wire.size) == (Kind.WRITE, addr, size)
    assert wire.payload == data[:size]
    assert wire.translated and int(wire.requester_id) == 0x0208


@given(PLACES, st.integers(0, 7))
def test_completions_of_one_read_do_not_add_up_to_its_bytes(place, boundary):
    addr, size = place
    request, data = read_at(addr, size), bytes(n & 0xFF for n in range(size))
    cut = min(RCB - addr % RCB + boundary * RCB, size)
    parts = [data[:cut], data[cut:]] if cut < size else [data]
    got, left = b"", size
    for part in parts:
        tlp = completion(request, part, left)
        assert tlp.check()
        header, beats = to_device(tlp)
        fields = RX_HEADER.unpack(header)
        assert (fields["tag"], fields["byte_count"], fields["len"]) == (9, left, len(part))
        got += b"".join(beat.to_bytes(16, "little") for beat in beats)[: fields["len"]]
        left -= len(part)
    assert got == data


def test_a_failed_read_looks_like_a_good_one():
    header, beats = to_device(completion(read_at(PAGE, 64), b"", 4, CplStatus.CA))
    fields = RX_HEADER.unpack(header)
    assert (fields["status"], fields["len"], len(beats)) == (4, 0, 1)


@pytest.mark.parametrize("pasid", [None, 0xABCDE])
def test_an_invalidate_loses_itag_target_or_pasid_on_its_way(pasid):
    tlp = invalidate(17, invalidate_body(0x5000, PAGE), 0x00C8, pasid, 3, 0x0208)
    copy = AtsTlp(tlp)
    fields = RX_HEADER.unpack(to_device(copy)[0])
    assert (fields["itag"], fields["requester"], fields["tc"]) == (17, 0x00C8, 3)
    assert (fields["pasid_valid"], fields["pasid"]) == (int(pasid is not None), pasid or 0)
    assert int(copy.completer_id) == 0x0208 and copy.message == 1


@given(st.integers(0, (1 << 40) - 1), st.integers(1, 5000))
def test_invalidates_of_a_range_miss_a_page_or_name_one_beside_it(page, count):
    at = page * PAGE
    for iova, size in blocks(at, count * PAGE):
        assert iova == at and size & (size - 1) == 0 and iova % size == 0
        assert coded_range(iova, size) & -(1 << 12) & ~(size - 1) == iova
        at += size
    assert at == (page + count) * PAGE


def test_everything_is_not_one_invalidate():
    assert blocks(0, EVERYTHING) == [(0, EVERYTHING)]
