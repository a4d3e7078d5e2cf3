# SPDX-License-Identifier: MIT
"""The columns, and the arithmetic of exposure over them.

Exposure is bytes times the time in which a device could reach them although they were no longer
its own. Each frame has a rate, the bytes of it that are exposed now; a change of the frame's state
first settles what the old rate has cost until that moment.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.kernel import Bytes, Floats, Ints, kernel

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
SLOT_SHIFT = 6
"""log2 of the bytes between two places at which a buffer may begin: a cache line."""

LIVE, POSTED, HELD, STATE = range(4)
"""Columns of ``frame``: mappings of it that are alive; buffers in it that the device owns; bytes of
it that the stack holds; one of:"""
FREE, OURS = 0, 1

HOME, AT_DEVICE, AT_STACK = 0, 1, 2
"""Values of ``slot``: who has the buffer that begins there."""

READ, FREED, EVERYTHING, EXPOSURES = range(4)
"""Kinds of exposure: the stack has the bytes; the page allocator, and so anybody, has them; all
memory is mapped for good."""

(
    MAPPED,
    ENDED,
    ACCESSES,
    LIVE_NOW,
    LIVE_PEAK,
    STALE_NOW,
    STALE_PEAK,
    WINDOWS,
    WINDOW_ALL,
    POSTED_BYTES,
    SHARED,
    N_SIZE,
) = range(12)
"""Places in ``n``: mappings (pages) that came to life and ended; accesses judged; mappings alive,
now and at most; of them given up by their owner, now and at most; stale windows that have ended;
whether all memory is mapped; bytes posted; whether all devices share one domain."""

LONGEST_NS, STALE_NS, SINCE_ALL, F_SIZE = EXPOSURES, EXPOSURES + 1, EXPOSURES + 2, EXPOSURES + 3
"""Places in ``f`` behind the byte-ns of each kind of exposure: the longest stale window; all of
them together; when the exposure of everything was last settled."""

RULES = 21
"""Rows of ``broken`` and ``first``: rules O-1 to O-20 by their number."""
WHEN, FRAME, IOVA, DEVICE, OTHER, DETAILS = range(6)
"""Columns of ``first``: of each rule's first violation; OTHER: another device, or a count."""

WINDOW_BINS = 40
"""Stale windows by length: bin k holds those of 2^(k-1) to 2^k ns."""


class Book(NamedTuple):
    """What the ledger knows.

    n, f: numbers, see the places above. reach: int64[devices, IOVA pages], the frame that the
    device reaches there, or -1; given_up: float64 of the same shape, when the owner unmapped it
    (ns), -1 while it wants it. frame: int64[frames, 4]; since: float64[frames], when its exposure
    was last settled. slot: int8, see SLOT_SHIFT. broken: int64[RULES], violations; first:
    float64[RULES, DETAILS]; windows: int64[WINDOW_BINS].
    """

    n: Ints
    f: Floats
    reach: Ints
    given_up: Floats
    frame: Ints
    since: Floats
    slot: Bytes
    broken: Ints
    first: Floats
    windows: Ints


def make_book(
    frames: int,
    space_pages: int,
    devices: int = 1,
    everything: bool = False,
    shared: bool = False,
) -> Book:
    """An empty book for ``frames`` of memory and an IOVA space of ``space_pages``.

    everything: no IOMMU, or a direct window: each device reaches all memory at its own address.
    shared: the devices share one domain: what is mapped for one, all reach.
    """
    book = Book(
        n=np.zeros(N_SIZE, np.int64),
        f=np.zeros(F_SIZE, np.float64),
        reach=np.full((devices, space_pages), -1, np.int64),
        given_up=np.full((devices, space_pages), -1.0),
        frame=np.zeros((frames, 4), np.int64),
        since=np.zeros(frames, np.float64),
        slot=np.zeros(frames << (PAGE_SHIFT - SLOT_SHIFT), np.int8),
        broken=np.zeros(RULES, np.int64),
        first=np.zeros((RULES, DETAILS), np.float64),
        windows=np.zeros(WINDOW_BINS, np.int64),
    )
    book.n[WINDOW_ALL], book.n[SHARED] = everything, shared
    return book


@kernel
def blame(
    book: Book, rule: int, now: float, frame: int, iova: int, device: int, other: int
) -> None:
    """Counts a violation; keeps what was seen of the first of each rule."""
    if book.broken[rule] == 0:
        book.first[rule, WHEN] = now
        book.first[rule, FRAME] = frame
        book.first[rule, IOVA] = iova
        book.first[rule, DEVICE] = device
        book.first[rule, OTHER] = other
    book.broken[rule] += 1


@kernel
def settle(book: Book, frame: int, now: float) -> None:
    """Books the exposure of ``frame`` until now; its state may change after this.

    CPUs are played one after the other, so ``now`` may lie before what was booked: then it is.
    """
    passed = now - book.since[frame]
    if passed <= 0.0:
        return
    if book.frame[frame, LIVE] > 0:
        if book.frame[frame, STATE] == FREE:
            book.f[FREED] += PAGE_SIZE * passed
        elif book.frame[frame, HELD]:
            book.f[READ] += book.frame[frame, HELD] * passed
    book.since[frame] = now


@kernel
def settle_everything(book: Book, now: float) -> None:
    """The same where all memory is mapped: all of it is exposed but what is posted."""
    if book.n[WINDOW_ALL]:
        exposed = len(book.since) * PAGE_SIZE - book.n[POSTED_BYTES]
        book.f[EVERYTHING] += exposed * (now - book.f[SINCE_ALL])
        book.f[SINCE_ALL] = now


@kernel
def window_ended(book: Book, length: float) -> None:
    """A mapping outlived its owner's unmap by ``length`` ns."""
    book.n[WINDOWS] += 1
    book.f[STALE_NS] += length
    book.f[LONGEST_NS] = max(book.f[LONGEST_NS], length)
    place, bound = 0, 1.0
    while bound < length and place < WINDOW_BINS - 1:
        bound *= 2.0
        place += 1
    book.windows[place] += 1
