# SPDX-License-Identifier: MIT
"""Claims about the page allocator: T4, T5, T9, T10, T22."""

from __future__ import annotations

import numpy as np

from driver.host.costs import load_host_costs
from pool import ports
from testbed.twin import host as h
from testbed.twin.interpreted import build_interpreted
from testbed.twin.thread.experiment import GHZ, Steady, cycles_of, scenario, steady
from testbed.twin.thread.pools import AVERAGE, OFF, STRICT
from testbed.twin.thread.row import Row, count, whole

BEFORE, SERIES, LATER = "linux-2016", "linux-2016-series", "linux-2021"
ALLOCATOR = "page allocator"


def t4() -> Row:
    """A high order first, smaller ones where it is not to be had."""
    calm = steady("order_fallback", OFF)
    split = steady("order_fallback", OFF, memory__fragmented=1.0)
    walled = steady("order_fallback", STRICT, memory__fragmented=1.0)
    easy = steady("order_fallback", STRICT)
    cases = [("plenty, no IOMMU", calm), ("split, no IOMMU", split)]
    cases += [("plenty, strict", easy), ("split, strict", walled)]
    return Row(
        4,
        "A high order, and what to fall back to",
        "Brouer",
        "holds",
        "mlx4 asks for blocks of high order and falls back to smaller ones; under memory pressure "
        "an allocation then costs about 2500 cycles.",
        "With plenty of memory a block of order 3 costs {calm_block:.0f} cycles, {calm:.2f} for "
        "each of its 16 buffers. With every block of order 3 split by somebody's page, each "
        "allocation tries and fails {attempts:.0f} times first: {split_block:.0f} cycles for two "
        "buffers, and the map is shared by 2 instead of 16, so under strict invalidation a packet "
        "costs {walled:.0f} cycles instead of {easy:.0f}.",
        AVERAGE + "; the 2500 cycles are put in (a third for each failed attempt), what follows "
        "from them is not.",
        ("memory", "cycles a block", "allocator cycles a packet", "maps", "cycles"),
        [
            (
                name,
                whole(run.cycles[ALLOCATOR] / _blocks(run)),
                count(run.cycles[ALLOCATOR]),
                count(run.maps),
                whole(run.total),
            )
            for name, run in cases
        ],
        {
            "calm": calm.cycles[ALLOCATOR],
            "split": split.cycles[ALLOCATOR],
            "calm_block": calm.cycles[ALLOCATOR] / _blocks(calm),
            "split_block": split.cycles[ALLOCATOR] / _blocks(split),
            "attempts": split.counters["failed_attempts"] / _blocks(split),
            "easy": easy.total,
            "walled": walled.total,
            "maps": split.maps,
        },
    )


def _blocks(run: Steady) -> float:
    """Blocks that were had, for each packet."""
    return run.allocator_calls - run.counters["failed_attempts"]


def t5() -> Row:
    """What an out-of-order packet holds, and what it admits to."""
    attack = {
        "consumer__kind": "socket",
        "consumer__late_every": 64,
        "consumer__late_us": 1e6,
        "driver__buffer_bytes": 1536,
        "traffic__frame_bytes": 1518,
        "memory__mib": 64,
    }
    order3 = steady("order_fallback", OFF, 12000, 12000, **attack)
    page = steady("page_pool", OFF, 12000, 12000, **attack)
    flip = steady("half_page_flip", OFF, 12000, 12000, **attack)
    quiet = steady("order0_recycle", STRICT)
    blocked = steady("order0_recycle", OFF, 12000, 12000, **attack)
    runs = [("order_fallback", order3), ("page_pool", page), ("half_page_flip", flip)]
    runs += [("order0_recycle", blocked)]
    return Row(
        5,
        "Order-0 only, and the truesize attack",
        "Dumazet",
        "holds, but for the queue of pages",
        "Order-0 pages that are recycled are hardly ever allocated. Order 3 is dangerous: an "
        "out-of-order TCP packet holds 32 KiB and claims 1.5 KiB of truesize.",
        "Undisturbed, order-0 recycling allocates {calls:.4f} pages a packet. A sender who keeps "
        "every 64th packet waiting makes order 3 pin {order3:.1f} bytes for each byte that the "
        "packets claim (32 KiB over 1.5 KiB is 21.3), a page per packet {page:.1f}, two halves "
        "{flip:.1f}. But recycling in order has a trap of its own: the oldest page blocks the "
        "queue, every packet is allocated anew ({blocked_calls:.2f} a packet) and {blocked:.1f} "
        "bytes are kept for each that is claimed.",
        "Frames of 1518 bytes in buffers of 1536; every 64th is held for a second, the others "
        "are read at once. Kept bytes are those beyond what a pool that holds nothing has.",
        ("strategy", "a held packet claims", "bytes kept per byte claimed", "allocations"),
        [
            (
                f"`{name}`",
                f"{ {'order_fallback': 1536, 'half_page_flip': 2048}.get(name, 4096) } B",
                count(run.end.pinned_per_claimed),
                count(run.allocator_calls),
            )
            for name, run in runs
        ],
        {
            "order3": order3.end.pinned_per_claimed,
            "page": page.end.pinned_per_claimed,
            "flip": flip.end.pinned_per_claimed,
            "blocked": blocked.end.pinned_per_claimed,
            "calls": quiet.allocator_calls,
            "blocked_calls": blocked.allocator_calls,
        },
    )


def allocate_and_free(host_costs: str, count: int, order: int, bulk: bool) -> float:
    """Cycles of allocating ``count`` blocks and freeing them, all of it together."""
    host = build_interpreted(scenario("map_per_packet", OFF, host=host_costs)).host
    frames = np.zeros(count, np.int64)
    ports.alloc_pages(host, count, order, bulk, frames)
    ports.free_pages(host, count, order, bulk, frames)
    return cycles_of(host_costs, float(host.spent[h.ALLOC]))


def t9() -> Row:
    """The table of allocation costs."""
    table = {
        (name, order): allocate_and_free(name, 1, order, False)
        for name in (BEFORE, SERIES)
        for order in (0, 3)
    }
    shared = steady("order_fallback", OFF)
    facts = {
        "order0": table[BEFORE, 0],
        "order0_series": table[SERIES, 0],
        "order3": table[BEFORE, 3],
        "order3_series": table[SERIES, 3],
        "page": table[BEFORE, 3] / 8,
        "buffer": shared.cycles[ALLOCATOR],
    }
    return Row(
        9,
        "What a page costs",
        "Brouer, Gorman",
        "reproduced",
        "Order 0 costs 277 cycles to allocate and free, 228 with the series under way; order 3 "
        "about 500, then 417; shared out, that is 62.5 a page and 31.25 a buffer of 2 KiB.",
        "The allocator model, asked for one block and given it back: {order0:.0f} and "
        "{order0_series:.0f} for order 0, {order3:.0f} and {order3_series:.0f} for order 3. A "
        "page of an order-3 block comes to {page:.1f}, and a run of mlx4's scheme spends "
        "{buffer:.2f} a packet in the allocator. An order-0 page is then {ratio:.1f} times a page "
        "of an order-3 block, before anybody counts what T5 says of that.",
        "The four numbers are those quoted in 2016 and are put in; tables found in print say 272, "
        "231, 503 and 397. Shares follow.",
        ("", "4.6-rc1", "with the series"),
        [
            ("order 0", whole(facts["order0"]), whole(facts["order0_series"])),
            ("order 3", whole(facts["order3"]), whole(facts["order3_series"])),
            ("order 3, a page", count(facts["page"]), count(facts["order3_series"] / 8)),
            ("order 3, a buffer", count(facts["page"] / 2), count(facts["order3_series"] / 16)),
        ],
        facts | {"ratio": facts["order0"] / facts["page"]},
    )


BATCHES = (1, 2, 4, 8, 16, 32, 64)


def t10() -> Row:
    """Cycles a page against the size of the batch."""
    curve = {
        (name, n): allocate_and_free(name, n, 0, True) / n
        for name in (BEFORE, LATER)
        for n in BATCHES
    }
    facts = {f"{name}_{n}": value for (name, n), value in curve.items()}
    return Row(
        10,
        "In bulk",
        "Brouer",
        "holds, most of it by 8 pages",
        "Allocate and free many pages by one call, as SLUB and ixgbe's transmit completion do.",
        "A call for 64 pages costs {last:.0f} cycles a page where a call for one costs "
        "{one:.0f}; already with 8 it is {eight:.0f}. As merged in 2021: {later_one:.0f} and "
        "{later:.0f} in a bulk of 64, which is what a refill of the pool asks for.",
        "The prototype of 2017 on the machine of 2016, and what was merged in 2021, each as "
        "published; both are put in.",
        ("pages a call", "prototype of 2017", "merged 2021"),
        [(str(n), whole(curve[BEFORE, n]), whole(curve[LATER, n])) for n in BATCHES],
        facts
        | {
            "last": curve[BEFORE, 64],
            "eight": curve[BEFORE, 8],
            "one": curve[BEFORE, 1],
            "later": curve[LATER, 64],
            "later_one": curve[LATER, 1],
        },
    )


def t22() -> Row:
    """What the allocator's checks cost a packet."""
    names = ("map_per_packet", "direct_window", "order_fallback", "page_pool")
    kept = {name: steady(name, OFF).total for name in names}
    skipped = {name: steady(name, OFF, memory__debug_checks=False).total for name in names}
    cost = {name: kept[name] - skipped[name] for name in names}
    price = load_host_costs(BEFORE).cycles["allocator.debug_check"]
    return Row(
        22,
        "The allocator's debug checks",
        "Gorman",
        "holds: who recycles skips them",
        "The allocator's checks catch corruption, also that by hardware. Keep them, or make it "
        "explicit that they are skipped.",
        "At {price:.0f} cycles a page at most, whoever allocates for every packet pays "
        "{naive:.0f} cycles a packet, {share:.0%} of the 201-cycle budget; blocks of eight pages "
        "pay {order:.1f}. A pool pays {pool:.1f}: its pages do not pass the allocator, so a page "
        "that the device corrupted goes round unseen. That is the skipping which Gorman wants "
        "to be explicit.",
        AVERAGE + "; the price is derived: what each further page adds to a block of order 3 "
        "holds its checks, and more than those.",
        ("strategy", "with checks", "without", "the checks"),
        [
            (f"`{name}`", whole(kept[name]), whole(skipped[name]), count(cost[name]))
            for name in names
        ],
        {
            "price": price,
            "naive": cost["map_per_packet"],
            "pool": cost["page_pool"],
            "order": cost["order_fallback"],
            "share": cost["map_per_packet"] / (67.2 * GHZ),
        },
    )
