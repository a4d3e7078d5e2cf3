# SPDX-License-Identifier: MIT
"""What is told to the book, one kernel for each kind of event, and what the rules say of it.

Judged here: O-1 (access outside the live set), O-2 (across devices), O-3 (unmapped or freed while
posted), O-5 (posted twice, or while the stack has it), O-7 (mappings left behind). The
others have no signal in a model in which host and device share one clock and no bytes move.
"""

from __future__ import annotations

from emulator.kernel import Ints, kernel
from emulator.ledger.columns.book import (
    ACCESSES,
    AT_DEVICE,
    AT_STACK,
    ENDED,
    FREE,
    HELD,
    HOME,
    LIVE,
    LIVE_NOW,
    LIVE_PEAK,
    MAPPED,
    OURS,
    PAGE_SHIFT,
    PAGE_SIZE,
    POSTED,
    POSTED_BYTES,
    SHARED,
    SLOT_SHIFT,
    STALE_NOW,
    STALE_PEAK,
    STATE,
    WINDOW_ALL,
    Book,
    blame,
    settle,
    settle_everything,
    window_ended,
)

O_1, O_2, O_3, O_5, O_7 = 1, 2, 3, 5, 7


@kernel
def allocated(book: Book, now: float, frame: int, pages: int) -> None:
    """The page allocator gave ``pages`` frames from ``frame`` on to a driver."""
    for page in range(frame, frame + pages):
        settle(book, page, now)
        book.frame[page, STATE] = OURS


@kernel
def freed(book: Book, now: float, frame: int, pages: int) -> None:
    """They went back: from now on they may be anybody's. O-3 if a buffer in them is posted."""
    for page in range(frame, frame + pages):
        settle(book, page, now)
        book.frame[page, STATE] = FREE
        if book.frame[page, POSTED] > 0:
            blame(book, O_3, now, page, -1, 0, book.frame[page, POSTED])


@kernel
def mapped(book: Book, now: float, device: int, iova_page: int, frame: int) -> None:
    """``device`` reaches ``frame`` at ``iova_page`` from now on."""
    settle(book, frame, now)
    book.frame[frame, LIVE] += 1
    first = 0 if book.n[SHARED] else device
    last = book.reach.shape[0] if book.n[SHARED] else device + 1
    for each in range(first, last):
        book.reach[each, iova_page] = frame
        book.given_up[each, iova_page] = -1.0
    book.n[MAPPED] += 1
    book.n[LIVE_NOW] += 1
    book.n[LIVE_PEAK] = max(book.n[LIVE_PEAK], book.n[LIVE_NOW])


@kernel
def given_up(book: Book, now: float, device: int, iova_page: int) -> None:
    """The owner unmaps it; the device may reach it until :func:`ended`. O-3 if it is posted.

    O-7 if there is nothing to unmap, or not any more.
    """
    frame = book.reach[device, iova_page]
    if frame < 0 or book.given_up[device, iova_page] >= 0.0:
        blame(book, O_7, now, -1, iova_page << PAGE_SHIFT, device, 0)
        return
    if book.frame[frame, POSTED] > 0:
        blame(book, O_3, now, frame, iova_page << PAGE_SHIFT, device, book.frame[frame, POSTED])
    book.given_up[device, iova_page] = now
    book.n[STALE_NOW] += 1
    book.n[STALE_PEAK] = max(book.n[STALE_PEAK], book.n[STALE_NOW])


@kernel
def ended(book: Book, when: float, iova_page: int) -> None:
    """The IOMMU has forgotten the mapping: no device reaches it any more."""
    frame, since = -1, -1.0
    for device in range(book.reach.shape[0]):
        if book.reach[device, iova_page] >= 0:
            frame = book.reach[device, iova_page]
            since = max(since, book.given_up[device, iova_page])
            book.reach[device, iova_page] = -1
    if frame < 0:
        return
    settle(book, frame, when)
    book.frame[frame, LIVE] -= 1
    book.n[ENDED] += 1
    book.n[LIVE_NOW] -= 1
    if since >= 0.0:
        book.n[STALE_NOW] -= 1
        window_ended(book, when - since)


@kernel
def posted(book: Book, now: float, device: int, n: int, mem: Ints, iova: Ints, length: int) -> None:
    """``n`` buffers of ``length`` bytes are the device's. O-5 if one is somebody's already."""
    settle_everything(book, now)
    for i in range(n):
        frame, slot = mem[i] >> PAGE_SHIFT, mem[i] >> SLOT_SHIFT
        if book.slot[slot] != HOME:
            blame(book, O_5, now, frame, iova[i], device, book.slot[slot])
        book.slot[slot] = AT_DEVICE
        book.frame[frame, POSTED] += 1
        if (mem[i] + length - 1) >> PAGE_SHIFT != frame:
            book.frame[frame + 1, POSTED] += 1
        book.n[POSTED_BYTES] += length


@kernel
def unposted(book: Book, mem: int, length: int) -> None:
    """The device is done with the buffer at ``mem``."""
    frame = mem >> PAGE_SHIFT
    book.slot[mem >> SLOT_SHIFT] = HOME
    book.frame[frame, POSTED] -= 1
    if (mem + length - 1) >> PAGE_SHIFT != frame:
        book.frame[frame + 1, POSTED] -= 1
    book.n[POSTED_BYTES] -= length


@kernel
def written(book: Book, now: float, device: int, mem: int, iova: int, length: int) -> None:
    """The device wrote ``length`` bytes at ``iova``, meaning ``mem``. O-1, O-2 if they differ."""
    book.n[ACCESSES] += 1
    if book.n[WINDOW_ALL]:
        return
    last = iova + length - 1
    for page in range(iova >> PAGE_SHIFT, (last >> PAGE_SHIFT) + 1):
        frame = (mem + ((page << PAGE_SHIFT) - iova if page << PAGE_SHIFT > iova else 0)) >> 12
        if book.reach[device, page] == frame and book.given_up[device, page] < 0.0:
            continue
        other = mapped_by_another(book, device, page, frame)
        if other >= 0:
            blame(book, O_2, now, frame, iova, device, other)
        else:
            blame(book, O_1, now, frame, iova, device, -1)


@kernel
def mapped_by_another(book: Book, device: int, iova_page: int, frame: int) -> int:
    """A device that reaches ``frame`` at ``iova_page`` when ``device`` does not, or -1."""
    if book.reach[device, iova_page] == frame:
        return -1
    for other in range(book.reach.shape[0]):
        if other != device and book.reach[other, iova_page] == frame:
            return other
    return -1


@kernel
def probed(book: Book, now: float, device: int, victim: int, mem: int, iova: int) -> bool:
    """``device`` writes where ``victim`` has a buffer posted, if it can: then O-2."""
    landed = book.n[WINDOW_ALL] > 0
    if not landed:
        landed = book.reach[device, iova >> PAGE_SHIFT] == mem >> PAGE_SHIFT
    if landed:
        blame(book, O_2, now, mem >> PAGE_SHIFT, iova, device, victim)
    return landed


@kernel
def received(book: Book, now: float, n: int, mem: Ints, size: int) -> None:
    """The stack has these buffers from now on, ``size`` bytes of memory each."""
    for i in range(n):
        frame = mem[i] >> PAGE_SHIFT
        settle(book, frame, now)
        book.slot[mem[i] >> SLOT_SHIFT] = AT_STACK
        book.frame[frame, HELD] += min(size, PAGE_SIZE)


@kernel
def given_back(book: Book, now: float, n: int, mem: Ints, size: int) -> None:
    """The stack is done with them."""
    for i in range(n):
        frame = mem[i] >> PAGE_SHIFT
        settle(book, frame, now)
        book.slot[mem[i] >> SLOT_SHIFT] = HOME
        book.frame[frame, HELD] -= min(size, PAGE_SIZE)


@kernel
def closed(book: Book, now: float, baseline: int) -> int:
    """The drivers are gone. O-7 for each mapping beyond ``baseline`` that nobody has given up."""
    left = book.n[LIVE_NOW] - book.n[STALE_NOW] - baseline
    if left > 0:
        blame(book, O_7, now, -1, -1, 0, left)
    for frame in range(len(book.since)):
        settle(book, frame, now)
    settle_everything(book, now)
    return left
