# SPDX-License-Identifier: MIT
"""Pages of the kernel's trace ring buffer, as `trace_pipe_raw` gives them: events, and losses.

A page is a header (u64 time in ns, u64 bytes of data with two flags) and events one behind the
other. An event begins with a word of 5 bits of kind and 27 bits of time since the one before; its
data follow, a multiple of 4 bytes (include/linux/ring_buffer.h, `events/header_page` and
`events/header_event` in tracefs). Where the writer overtook the reader, the next page says so, and
how many events that cost if there is room for the number behind its data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from vm.errors import TraceError

HEADER_PAGE = ("u64 timestamp; offset:0; size:8;", "local_t commit; offset:8; size:8;")
"""What `events/header_page` must say for these pages to be readable."""
_HEADER = struct.Struct("<QQ")
_WORD = struct.Struct("<I")
_COUNT = struct.Struct("<Q")
_DATA = 0xFFFFF
_MISSED, _STORED = 1 << 31, 1 << 30
_DATA_MAX, _PADDING, _EXTEND, _STAMP = 28, 29, 30, 31
_LOW = 27
_ABSOLUTE = (1 << 59) - 1


class RawEvent(NamedTuple):
    """One event: its time on the trace's clock in ns, and its data (common fields first)."""

    time_ns: int
    data: memoryview


class RingPage(NamedTuple):
    """A page: its events in order, and how many were lost before it (at least 1 where unknown)."""

    events: list[RawEvent]
    lost: int


def read_page(page: bytes) -> RingPage:
    """Decodes one page, which may be cut off behind its data.

    Raises:
        TraceError: an event does not end within the page's data, or the page is cut off in them.
    """
    if len(page) < _HEADER.size:
        raise TraceError(f"a page of {len(page)} bytes has no header")
    time_ns, commit = _HEADER.unpack_from(page)
    end = _HEADER.size + (commit & _DATA)
    if end > len(page):
        raise TraceError(f"a page of {len(page)} bytes announces {end}")
    lost = 0
    if commit & _MISSED:
        stored = commit & _STORED and end + _COUNT.size <= len(page)
        lost = max(_COUNT.unpack_from(page, end)[0], 1) if stored else 1
    return RingPage(list(_events(memoryview(page)[:end], time_ns)), lost)


def _events(page: memoryview, time_ns: int) -> Iterator[RawEvent]:
    at, end = _HEADER.size, len(page)
    while at + _WORD.size <= end:
        (word,) = _WORD.unpack_from(page, at)
        kind, delta, at = word & 31, word >> 5, at + _WORD.size
        if kind == _PADDING and not delta:
            return  # the rest of the page was never written
        size = 4 * kind if 0 < kind <= _DATA_MAX else _word(page, at)
        if kind == _EXTEND:
            time_ns += (size << _LOW) + delta
            at += _WORD.size
            continue
        if kind == _STAMP:
            time_ns = (time_ns & ~_ABSOLUTE) | ((size << _LOW) + delta) & _ABSOLUTE
            at += _WORD.size
            continue
        if at + size > end:
            raise TraceError(f"an event of {size} bytes at {at} in a page of {end}")
        if kind != _PADDING:  # a discarded event counts for nothing, its time neither
            time_ns += delta
            yield RawEvent(time_ns, page[at if kind else at + _WORD.size : at + size])
        at += size


def _word(page: memoryview, at: int) -> int:
    if at + _WORD.size > len(page):
        raise TraceError(f"an event at {at} lacks its length")
    value: int = _WORD.unpack_from(page, at)[0]
    return value
