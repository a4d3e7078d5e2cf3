# SPDX-License-Identifier: MIT
"""Claims about other users of the idea: T16, T17, T18."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from emulator.nic.steering import Filter, by_queue, steer
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig
from pool.errors import WrongDomainError
from pool.interface import Context
from pool.scatterlist_cache import SCATTERLIST_BYTES, SCSI_MAX_SG_SEGMENTS, SET_PAGES
from testbed.twin.interpreted import build_interpreted
from testbed.twin.thread.experiment import Steady, scenario, steady
from testbed.twin.thread.pools import AVERAGE, COST_HEADERS, STRICT, cost_line, cost_lines
from testbed.twin.thread.row import Row, count, whole


def refused_elsewhere() -> tuple[int, int]:
    """Pages that a pool refuses because their domain is another's; that it takes back after."""
    pool = build_interpreted(scenario("zero_copy_domain", STRICT)).pools[0]
    batch = pool.take(16)
    batch = pool.receive(batch, np.full(len(batch), 64, np.int64))
    foreign = replace(batch, domains=batch.domains + 1)
    try:
        pool.give(foreign, Context.REMOTE)
    except WrongDomainError:
        refused = pool.counters.refused
    else:
        refused = 0
    pool.give(batch, Context.REMOTE)
    return refused, pool.counters.given


def steered(queues: int = 4) -> tuple[int, int]:
    """Flows of the NIC's traffic; those of them whose frames all come to one queue of their own."""
    made = GeneratorConfig(seed=1, sizes=Fixed(60), count=64 * queues, flows=queues)
    frames = Generator(made).receive(64 * queues, 0)
    taken, hashes = steer(frames, Filter(0, True, True))
    order, ends = by_queue(hashes, queues)
    parts = np.split(hashes[order], ends[:-1])
    alone = sum(len(set(part.tolist())) == 1 for part in parts)
    return len(set(hashes.tolist())) if len(taken) == 64 * queues else 0, alone


def t16() -> Row:
    """Zero-copy receive into an application's pages."""
    socket: dict[str, Any] = {"consumer__kind": "socket"}
    zero = steady("zero_copy_domain", STRICT, **socket)
    copied = steady("shadow_copy", STRICT, **socket)
    big: dict[str, Any] = {"traffic__frame_bytes": 1518, **socket}
    zero_big = steady("zero_copy_domain", STRICT, **big)
    copied_big = steady("shadow_copy", STRICT, **big)
    refused, taken_back = refused_elsewhere()
    flows, alone = steered()
    cases = (
        ("zero_copy_domain", "64 B", zero),
        ("shadow_copy", "64 B", copied),
        ("zero_copy_domain", "1518 B", zero_big),
        ("shadow_copy", "1518 B", copied_big),
    )
    return Row(
        16,
        "Zero copy",
        "Brouer",
        "holds; it costs exposure, not cycles",
        "A filter in the NIC steers a flow to a queue of its own, whose pages are an "
        "application's. A cross-domain id in each page must match, or it is refused.",
        "Of {flows:.0f} flows the NIC brings {alone:.0f} to a queue of their own. {copies:.0f} "
        "copies and {maps:.0f} maps a packet: {zero:.0f} cycles to a socket, where "
        "copying out of permanently mapped buffers takes {copied:.0f} with small frames and "
        "{copied_big:.0f} with large. A batch of 16 pages with another application's id is "
        "refused whole ({refused:.0f}), and taken back by the pool it belongs to "
        "({taken_back:.0f}). The application reads what the device can still change: "
        "{held:,.0f} byte-us a packet, where a copy leaves {copied_held:.0f}.",
        AVERAGE + ", to a socket read by another CPU. The NIC steers by a hash of the flow "
        "(`emulator/nic/steering.py`), not by a rule for one flow: a queue is one flow's as long "
        "as there are no more flows than queues.",
        (*COST_HEADERS, "copies"),
        [(*cost_line(name, what, run), count(run.copies)) for name, what, run in cases],
        {
            "copies": zero.copies,
            "maps": zero.maps,
            "zero": zero.total,
            "copied": copied.total,
            "copied_big": copied_big.total,
            "copied_copies": copied.copies,
            "refused": refused,
            "taken_back": taken_back,
            "flows": flows,
            "alone": alone,
            "held": zero.exposed,
            "copied_held": copied.exposed,
        },
    )


BLOCK: dict[str, Any] = {
    "consumer__batch": SET_PAGES,
    "traffic__frame_bytes": 4096,
    "driver__buffer_bytes": 4096,
}
"""Commands of 16 pages, 64 KiB."""
FAST = "vtd-strict-fast-iova"


def t17() -> Row:
    """Who allocates starts the transfer."""
    runs = {
        (strategy, kind): steady(strategy, FAST, consumer__kind=kind, **BLOCK)
        for strategy in ("map_per_packet", "page_pool")
        for kind in ("storage", "initiator")
    }
    facts = {f"{strategy}_{kind}": run.maps for (strategy, kind), run in runs.items()}
    facts |= {f"{strategy}_{kind}_cycles": run.total for (strategy, kind), run in runs.items()}
    gain = {
        kind: 1 - runs["page_pool", kind].total / runs["map_per_packet", kind].total
        for kind in ("storage", "initiator")
    }
    return Row(
        17,
        "Who allocates the buffer starts the transfer",
        "Van Assche",
        "holds",
        "Zero-copy receive from a pool is peculiar to TCP/IP: with FC, SRP and iSER the side that "
        "allocates the buffer starts the transfer.",
        "As a target, whose pages come from the pool, it maps {page_pool_storage:.2f} instead of "
        "{map_per_packet_storage:.2f} times a page and saves {target:.0%} of the cycles. As an "
        "initiator it is never asked: the pages are those of whoever wants the data, there are "
        "{page_pool_initiator:.2f} maps a page with a pool and without, and it saves "
        "{initiator:.0%}.",
        "Commands of 16 pages under `vtd-strict-fast-iova`. That an initiator's pages pass the "
        "pool by is how the scenario is built; what it costs is not.",
        COST_HEADERS,
        cost_lines(*((strategy, kind, run) for (strategy, kind), run in runs.items())),
        facts | {"target": gain["storage"], "initiator": gain["initiator"]},
    )


def t18() -> Row:
    """Page sets and their scatterlists, kept together."""
    runs: dict[str, Steady] = {
        name: steady(name, FAST, consumer__kind="storage", **BLOCK)
        for name in ("map_per_packet", "page_pool", "scatterlist_cache")
    }
    cold = runs["map_per_packet"].maps * SET_PAGES
    table, maximum = (n * SCATTERLIST_BYTES for n in (SET_PAGES, SCSI_MAX_SG_SEGMENTS))
    kept = runs["scatterlist_cache"]
    return Row(
        18,
        "Page sets with their scatterlists",
        "Grimberg, Van Assche, Hellwig, Lever",
        "holds",
        "A storage target's unit is a command: cache sets of pages together with the scatterlist "
        "that describes them, and with what the driver attached to it.",
        "A command of 16 pages is {cold:.0f} maps without a cache and {warm:.2f} with one. The "
        "pool of T1 gets as far with the maps ({pool:.2f}) but counts page by page: "
        "{pool_cycles:.0f} cycles a page against {kept:.0f}. The list that stays with a set is "
        "as long as the set, {table:.0f} bytes; one of SCSI_MAX_SG_SEGMENTS for each command "
        "takes {maximum:.0f}.",
        "Commands of 16 pages of 4 KiB under `vtd-strict-fast-iova`; the driver's opaques ride "
        "in the descriptor of T19.",
        ("strategy", "maps a command", "atomics a page", "cycles a page", "list, bytes a command"),
        [
            (
                f"`{name}`",
                count(run.maps * SET_PAGES),
                count(run.atomics),
                whole(run.total),
                whole(table if name == "scatterlist_cache" else maximum),
            )
            for name, run in runs.items()
        ],
        {
            "cold": cold,
            "warm": kept.maps * SET_PAGES,
            "pool": runs["page_pool"].maps * SET_PAGES,
            "pool_cycles": runs["page_pool"].total,
            "kept": kept.total,
            "table": table,
            "maximum": maximum,
        },
    )
