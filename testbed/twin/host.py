# SPDX-License-Identifier: MIT
"""What plays the host in the twin: page allocator, DMA API and CPUs, over arrays.

It implements the ports of :mod:`pool.ports`. Each operation is done on the models, told to the
ledger's book, and paid for by the CPU that asked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from driver.host.costs import BULK_SIZES, HostCosts
from driver.host.memory import Memory, give_block, take_block
from emulator.iommu.model import places, unit
from emulator.iommu.model.unit import Iommu
from emulator.kernel import Floats, Ints, kernel
from emulator.ledger.columns import judge
from emulator.ledger.columns.book import PAGE_SHIFT, Book
from pool import ports
from pool.ports import NO_ADDRESS

CPU, DEVICE, ALLOC_CALLS, FREE_CALLS, SYNCS, COPIED_BYTES, N_SIZE = range(7)
"""Places in ``n``: who is at work now, for which device; and counts: calls of the page allocator,
blocks freed, buffers synced, bytes copied."""

ALLOC, STORE, ATOMIC, IOVA, PAGE_TABLE, INVALIDATE, WAIT, SYNC, COPY, DRIVER, STACK, SPENT = range(
    12
)
"""Where a CPU's time goes; places in ``spent``. WAIT: for its turn at something shared."""
CATEGORIES = (
    "page allocator",
    "pool",
    "atomics",
    "IOVA",
    "page table",
    "invalidation",
    "waiting",
    "sync",
    "copy",
    "driver",
    "stack",
)
"""Their names, in order."""

ORDERS = 5
"""Prices by order: 0 to 3, and above."""
ATTEMPTS = 3
"""Failed attempts that slow_path is the price of: orders 3, 2 and 1."""
BULK = ORDERS
SLOW = BULK + BULK_SIZES
(
    DEBUG,
    STORE_OP,
    RING_OP,
    REFERENCE,
    MAP_CALL,
    UNMAP_CALL,
    SYNC_CALL,
    COPY_CALL,
    COPY_BYTE,
    POLL,
    INTERRUPT,
    RECEIVE,
    DROP,
    FORWARD,
    TRANSMIT,
    SOCKET,
    COMMAND,
    PRICES,
) = range(SLOW + 1, SLOW + 19)
"""Places in ``price``, ns: of allocating and freeing a block by order, then of a page in a bulk by
log2 of its size, then of a failed attempt, then these. DEBUG: what is saved on a page without
debug checks (0: they are done, and in the prices)."""


class Host(NamedTuple):
    """n: see above. clock, busy, spent, price: float64.

    clock: [1 + cpus], now (ns), then how far each CPU that helps has got; busy: [cpus], ns each
    CPU has worked; spent: [SPENT], ns by category, of all CPUs; price: [PRICES].
    """

    n: Ints
    clock: Floats
    busy: Floats
    spent: Floats
    price: Floats
    memory: Memory
    io: Iommu
    book: Book


def make_host(costs: HostCosts, memory: Memory, io: Iommu, book: Book, cpus: int) -> Host:
    """A host of ``cpus`` CPUs at time 0. Even CPUs poll queues, the odd one beside each frees."""
    return Host(
        n=np.zeros(N_SIZE, np.int64),
        clock=np.zeros(1 + cpus, np.float64),
        busy=np.zeros(cpus, np.float64),
        spent=np.zeros(SPENT, np.float64),
        price=_prices(costs),
        memory=memory,
        io=io,
        book=book,
    )


def _prices(costs: HostCosts) -> Floats:
    orders = ["order_0", "order_1", "order_2", "order_3", "order_above"]
    named = [
        "allocator.debug_check",
        "pool.store_op",
        "pool.ring_op",
        "pool.reference",
        "dma.map_call",
        "dma.unmap_call",
        "dma.sync",
        "copy.call",
        "copy.per_100_bytes",
        "stack.poll",
        "stack.interrupt",
        "stack.receive",
        "stack.drop",
        "stack.forward",
        "stack.transmit",
        "stack.socket",
        "stack.command",
    ]
    prices = [costs.ns(f"allocator.{order}") for order in orders]
    prices += [float(cycles) / costs.ghz for cycles in costs.bulk]
    prices += [costs.ns("allocator.slow_path") / ATTEMPTS] + [costs.ns(key) for key in named]
    array = np.array(prices, np.float64)
    array[COPY_BYTE] /= 100
    return array


@kernel
def spend(host: Host, category: int, ns: float) -> None:
    """The CPU at work is busy for ``ns``."""
    host.spent[category] += ns
    work_until(host, now(host) + ns)


@kernel
def now(host: Host) -> float:
    """The time at the CPU at work. A CPU that helps (odd) begins when it is done with the last."""
    cpu = host.n[CPU]
    return host.clock[0] if cpu % 2 == 0 else max(host.clock[0], host.clock[1 + cpu])


@kernel
def work_until(host: Host, done: float) -> None:
    """The CPU at work is busy until ``done``. Polling CPUs (even) move the clock."""
    cpu = host.n[CPU]
    host.busy[cpu] += done - now(host)
    host.clock[0 if cpu % 2 == 0 else 1 + cpu] = done


@ports.implement_alloc_pages(Host)
def _alloc_pages(host: Host, count: int, order: int, bulk: bool, out: Ints) -> int:
    got = 0
    half = page_price(host, count, order, bulk) / 2
    while got < count:
        pfn = take_block(host.memory, order)
        if pfn < 0:
            spend(host, ALLOC, host.price[SLOW])
            break
        spend(host, ALLOC, half)
        judge.allocated(host.book, now(host), pfn, 1 << order)
        out[got] = pfn
        got += 1
    host.n[ALLOC_CALLS] += 1 if bulk else min(count, got + 1)
    return got


@ports.implement_free_pages(Host)
def _free_pages(host: Host, count: int, order: int, bulk: bool, pfns: Ints) -> None:
    half = page_price(host, count, order, bulk) / 2
    host.n[FREE_CALLS] += 1 if bulk else count
    for i in range(count):
        spend(host, ALLOC, half)
        judge.freed(host.book, now(host), pfns[i], 1 << order)
        give_block(host.memory, pfns[i], order)


@kernel
def page_price(host: Host, count: int, order: int, bulk: bool) -> float:
    """Of allocating and freeing one block, in a call of ``count``."""
    if bulk and order == 0:
        place, size = 0, 1
        while size < count and place < BULK_SIZES - 1:
            size *= 2
            place += 1
        return host.price[BULK + place]
    price = host.price[min(order, ORDERS - 1)]
    return price - min(price / 2, host.price[DEBUG] * (1 << order))


@kernel
def _map_at(host: Host, pages: int) -> int:
    """An IOVA page for ``pages``, paid for; -2: the device uses the frame itself; -1: none left."""
    spend(host, PAGE_TABLE, host.price[MAP_CALL])
    iova_page, done = unit.map_iova(host.io, host.n[CPU], now(host), pages)
    work_until(host, done)
    return iova_page


@kernel
def _unmap_at(host: Host, iova_page: int, pages: int) -> None:
    """The owner gives the range up; what the IOMMU forgets of it or of others ends."""
    began = now(host)
    spend(host, PAGE_TABLE, host.price[UNMAP_CALL])
    for page in range(iova_page, iova_page + pages):
        judge.given_up(host.book, began, host.n[DEVICE], page)
    done = unit.unmap_iova(host.io, host.n[CPU], now(host), iova_page, pages)
    work_until(host, done)
    end_mappings(host)


@kernel
def end_mappings(host: Host) -> None:
    """Tells the book of the ranges that the IOMMU has forgotten since it was last told."""
    for i in range(host.io.n[places.ENDED]):
        first, pages = host.io.ended[i, 0], host.io.ended[i, 1]
        for page in range(first, first + pages):
            judge.ended(host.book, host.io.ended_ns[i], page)
    host.io.n[places.ENDED] = 0


@kernel
def let_time_pass(host: Host) -> None:
    """Timers of the IOMMU driver that are due by now fire."""
    unit.advance(host.io, host.clock[0])
    end_mappings(host)


@ports.implement_map_pages(Host)
def _map_pages(host: Host, count: int, order: int, pfns: Ints, out: Ints) -> None:
    for i in range(count):
        out[i] = _map_row(host, pfns[i], 1 << order)


@ports.implement_unmap_pages(Host)
def _unmap_pages(host: Host, count: int, order: int, iovas: Ints) -> None:
    for i in range(count):
        _unmap_row(host, iovas[i], 1 << order)


@ports.implement_map_range(Host)
def _map_range(host: Host, pfn: int, pages: int) -> int:
    return _map_row(host, pfn, pages)


@ports.implement_unmap_range(Host)
def _unmap_range(host: Host, iova: int, pages: int) -> None:
    _unmap_row(host, iova, pages)


@kernel
def _map_row(host: Host, pfn: int, pages: int) -> int:
    iova_page = _map_at(host, pages)
    if iova_page == -2:
        return pfn << PAGE_SHIFT
    if iova_page < 0:
        return NO_ADDRESS
    for page in range(pages):
        judge.mapped(host.book, now(host), host.n[DEVICE], iova_page + page, pfn + page)
    return iova_page << PAGE_SHIFT


@kernel
def _unmap_row(host: Host, iova: int, pages: int) -> None:
    if unit.is_identity(host.io):
        spend(host, PAGE_TABLE, host.price[UNMAP_CALL])
    else:
        _unmap_at(host, iova >> PAGE_SHIFT, pages)


@ports.implement_map_scattered(Host)
def _map_scattered(host: Host, pages: int, pfns: Ints) -> int:
    iova_page = _map_at(host, pages)
    if iova_page < 0:
        return NO_ADDRESS
    for page in range(pages):
        judge.mapped(host.book, now(host), host.n[DEVICE], iova_page + page, pfns[page])
    return iova_page << PAGE_SHIFT


@ports.implement_unmap_scattered(Host)
def _unmap_scattered(host: Host, iova: int, pages: int) -> None:
    _unmap_row(host, iova, pages)


@ports.implement_sync_for_device(Host)
def _sync_for_device(host: Host, count: int, iovas: Ints, length: int) -> None:
    host.n[SYNCS] += count
    spend(host, SYNC, count * host.price[SYNC_CALL])


@ports.implement_sync_for_cpu(Host)
def _sync_for_cpu(host: Host, count: int, iovas: Ints, lengths: Ints) -> None:
    host.n[SYNCS] += count
    spend(host, SYNC, count * host.price[SYNC_CALL])


@ports.implement_copy_bytes(Host)
def _copy_bytes(host: Host, count: int, sources: Ints, targets: Ints, lengths: Ints) -> None:
    total = 0
    for i in range(count):
        total += lengths[i]
    host.n[COPIED_BYTES] += total
    spend(host, COPY, count * host.price[COPY_CALL] + total * host.price[COPY_BYTE])
