# SPDX-License-Identifier: MIT
"""Claims about pools of mapped pages: T1, T2, T3, T6, T8, T21."""

from __future__ import annotations

from testbed.twin.thread.experiment import FREE, HELD, Steady, steady
from testbed.twin.thread.row import Row, count, whole

STRICT, OFF = "vtd-strict", "passthrough"
COST_HEADERS = ("strategy", "consumer", "maps", "unmaps", "atomics", "cycles", "exposed byte-us")
AVERAGE = "64-byte frames as fast as the driver polls, 512 descriptors, host costs of linux-2016"


def cost_line(name: str, consumer: str, run: Steady) -> tuple[str, ...]:
    """A line under COST_HEADERS."""
    return (
        f"`{name}`",
        consumer,
        count(run.maps),
        count(run.unmaps),
        count(run.atomics),
        whole(run.total),
        whole(run.exposed),
    )


def cost_lines(*cases: tuple[str, str, Steady]) -> list[tuple[str, ...]]:
    """Lines under COST_HEADERS."""
    return [cost_line(*case) for case in cases]


def t1() -> Row:
    """A pool of mapped pages for each receive queue."""
    naive, pool = steady("map_per_packet", STRICT), steady("page_pool", STRICT)
    remote = steady("page_pool", STRICT, consumer__kind="forward-remote")
    plain = steady("map_per_packet", OFF)
    recycled = sum(pool.counters[key] for key in ("recycled_cache", "recycled_ring"))
    return Row(
        1,
        "A pool of mapped pages for each queue",
        "Brouer",
        "holds",
        "Keep pages mapped in a pool for each device, better for each receive queue: allocating "
        "and freeing on one CPU then needs no atomic operation, and nothing is mapped per packet.",
        "With strict invalidation a map per packet costs {naive:.0f} cycles, {factor:.0f} times "
        "the pool's {pool:.0f}. The pool maps {maps:.4f} times a packet and uses {atomics:.2f} "
        "atomics on one CPU; {recycled:.0%} of the buffers are recycled, and no more than "
        "{inflight:.0f} pages are in flight. When another CPU frees, each page passes the ring: "
        "{remote_atomics:.2f} atomics, {remote:.0f} cycles with forwarding, still no map. The "
        "price is the time in which the stack reads what the device can still write.",
        AVERAGE + "; the ring is the kernel's, 1024 entries, cache 128, refill 64.",
        COST_HEADERS,
        cost_lines(
            ("map_per_packet", "drop, no IOMMU", plain),
            ("map_per_packet", "drop", naive),
            ("page_pool", "drop", pool),
            ("page_pool", "forward, freed elsewhere", remote),
        ),
        {
            "naive": naive.total,
            "pool": pool.total,
            "factor": naive.total / pool.total,
            "maps": pool.maps,
            "unmaps": pool.unmaps,
            "atomics": pool.atomics,
            "recycled": recycled / pool.counters["taken"],
            "inflight": pool.end.pinned_bytes / 4096,
            "remote": remote.total,
            "remote_atomics": remote.atomics,
            "remote_maps": remote.maps,
            "naive_maps": naive.maps,
            "naive_exposed": naive.exposed,
            "exposed": pool.exposure[HELD],
        },
    )


def t2() -> Row:
    """A plain array, touched by one CPU."""
    local = steady("array_cache", STRICT)
    remote = steady("array_cache", STRICT, consumer__kind="forward-remote")
    return Row(
        2,
        "A plain array without a lock",
        "Starovoitov",
        "holds on one CPU, fails across CPUs",
        "A small array of page and DMA address is enough; with any atomic per packet it is out of "
        "the question. When it is full, unmap and free. A page is a packet.",
        "No atomic and no map as long as the CPU that receives also frees: {local:.0f} cycles. "
        "When another CPU frees, the array never sees the page again and every packet is mapped "
        "({remote_maps:.2f}) and unmapped: {remote:.0f} cycles. A 64-byte frame wastes "
        "{wasted:.0f} of the 4096 bytes of its page.",
        AVERAGE + ".",
        COST_HEADERS,
        cost_lines(
            ("array_cache", "drop", local), ("array_cache", "forward, freed elsewhere", remote)
        ),
        {
            "local": local.total,
            "atomics": local.atomics,
            "maps": local.maps,
            "remote": remote.total,
            "remote_maps": remote.maps,
            "wasted": local.counters["bytes_wasted"],
        },
    )


RING, GBPS = 128, 1.0
LAP_US = RING * (64 + 20) * 8 / GBPS / 1e3
HOLDS = (0.0, 0.5, 0.9, 1.0, 1.1, 2.0)
"""Of T3, in laps: a half comes round again after a lap of the ring."""


def t3() -> Row:
    """Two halves of a page in turn."""
    quick = steady("half_page_flip", STRICT, driver__references=1)
    today = steady("half_page_flip", STRICT)
    runs = [
        steady(
            "half_page_flip", OFF, 2000, 800, consumer__kind="socket", traffic__kind="poisson",
            traffic__rate_gbps=GBPS, driver__ring=RING, driver__budget=8,
            consumer__hold_us=hold * LAP_US, driver__references=1,
        )
        for hold in HOLDS
    ]  # fmt: skip
    failed = [
        run.counters["failed_flips"] / (run.counters["flips"] + run.counters["failed_flips"])
        for run in runs
    ]
    facts = {f"failed_{hold}": share for hold, share in zip(HOLDS, failed, strict=True)}
    return Row(
        3,
        "The two halves of a page",
        "Brouer, Dumazet",
        "holds for 2016: two atomics, and a cliff",
        "The Intel drivers post the halves of a page in turn while nobody else holds it "
        "(`page_count <= 2`). It costs two atomics a packet and fails when the stack holds on.",
        "Two atomics: {atomics:.2f} a packet, {cycles:.0f} cycles where the pool has none. Since "
        "2017 the drivers take references by the thousand, and the increment is gone: {today:.2f}, "
        "{today_cycles:.0f} cycles. A flip "
        "fails when the stack still has the other half after a lap of the ring: {at_09:.0%} "
        "at 0.9 laps, {at_11:.0%} at 1.1, {at_20:.0%} at two: no more, as the first "
        "flip of a fresh page cannot fail. Each failure is an unmap, an allocation and a map.",
        f"One reference at a time but for the figure of today. Poisson arrivals at {GBPS:g} Gb/s "
        f"on {RING} descriptors, so a lap is {LAP_US:.0f} us; each packet is held for the same "
        "time. Pages of 8 KiB and more are not modelled.",
        ("held for, in laps of the ring", "flips that fail", "atomics", "allocations"),
        [
            (f"{hold:g}", f"{share:.1%}", count(run.atomics), count(run.allocator_calls))
            for hold, share, run in zip(HOLDS, failed, runs, strict=True)
        ],
        facts
        | {
            "atomics": quick.atomics,
            "cycles": quick.total,
            "today": today.atomics,
            "today_cycles": today.total,
            "at_09": failed[2],
            "at_11": failed[4],
            "at_20": failed[5],
        },
    )


def t6() -> Row:
    """The DMA pool API with streaming mappings."""
    ours, pool = steady("dma_pool", STRICT), steady("page_pool", STRICT)
    remote = steady("dma_pool", STRICT, consumer__kind="forward-remote")
    return Row(
        6,
        "The DMA pool API, extended",
        "Duyck",
        "works, with a lock where T1 has none",
        "There is a pool API already (`dma_pool`, coherent memory): extend it by streaming "
        "mappings instead of inventing another.",
        "It maps nothing per packet either. But it takes its lock to allocate and to free: "
        "{atomics:.2f} atomics and {ours:.0f} cycles, against {pool:.0f}; where the packet is "
        "freed makes no difference ({remote_atomics:.2f} atomics). It cuts pages into blocks of "
        "the buffer's size, so it pins half the memory of a page per packet.",
        AVERAGE + "; a lock and unlock is the ring's half operation of the page_pool bench.",
        COST_HEADERS,
        cost_lines(
            ("page_pool", "drop", pool),
            ("dma_pool", "drop", ours),
            ("dma_pool", "forward, freed elsewhere", remote),
        ),
        {
            "ours": ours.total,
            "pool": pool.total,
            "atomics": ours.atomics,
            "remote_atomics": remote.atomics,
            "maps": ours.maps,
            "pinned": ours.end.pinned_bytes,
            "pool_pinned": pool.end.pinned_bytes,
        },
    )


def t8() -> Row:
    """A per-CPU page list with a constructor that maps."""
    pcp, pool = steady("pcp_constructor", STRICT), steady("page_pool", STRICT)
    naive = steady("map_per_packet", STRICT)
    remote = steady(
        "pcp_constructor", STRICT, 4000, consumer__kind="forward-remote", driver__pool_size=256
    )
    pool_remote = steady("page_pool", STRICT, consumer__kind="forward-remote")
    return Row(
        8,
        "Only the mapping is worth keeping",
        "Gorman",
        "half: right about the mapping, not about the page",
        "Order-0 pages need no second recycler. Split the per-CPU allocator and give it a "
        "constructor that maps and a destructor that unmaps.",
        "Keeping the mapping is what matters: {naive:.0f} cycles fall to {pcp:.0f}. What is left "
        "are {alloc:.0f} cycles of the page allocator's own fast path, which the pool's array "
        "avoids: {pool:.0f}. And it fails where receiving and freeing CPU differ: one list maps, "
        "the other unmaps, {remote_maps:.2f} maps a packet in batches, {remote:.0f} cycles "
        "against the pool's {pool_remote:.0f}.",
        AVERAGE + "; a list holds 1024 pages (256 in the last case), a take and a give together "
        "cost an order-0 allocation and free.",
        COST_HEADERS,
        cost_lines(
            ("map_per_packet", "drop", naive),
            ("pcp_constructor", "drop", pcp),
            ("page_pool", "drop", pool),
            ("pcp_constructor", "forward, freed elsewhere", remote),
            ("page_pool", "forward, freed elsewhere", pool_remote),
        ),
        {
            "naive": naive.total,
            "pcp": pcp.total,
            "pool": pool.total,
            "maps": pcp.maps,
            "alloc": pcp.cycles["page allocator"],
            "remote": remote.total,
            "remote_maps": remote.maps,
            "pool_remote": pool_remote.total,
        },
    )


def t21() -> Row:
    """DPDK's pool as the mark."""
    mempool, pool = steady("mempool", STRICT), steady("page_pool", STRICT)
    remote = steady("mempool", STRICT, consumer__kind="forward-remote", driver__pool_size=4096)
    return Row(
        21,
        "DPDK as the mark",
        "Brouer",
        "reached on one CPU",
        "DPDK's buffers come from huge pages that are mapped once, without one atomic.",
        "{atomics:.2f} atomics and {mempool:.0f} cycles on one CPU; `page_pool` has as many "
        "({pool_atomics:.2f}, {pool:.0f}). Where another CPU frees, bulks keep the mark at "
        "{remote_atomics:.3f} atomics a packet. Its huge pages are what the pool lacks: "
        "{misses:.2f} IOTLB misses a packet against {pool_misses:.2f}. All of the pool's memory "
        "is in the device's reach for as long as it exists.",
        AVERAGE + "; buffers of 2 KiB in pages of 2 MiB that the IOMMU maps as such.",
        (*COST_HEADERS, "IOTLB misses"),
        [
            (*cost_line("mempool", "drop", mempool), count(mempool.misses)),
            (*cost_line("mempool", "forward, freed elsewhere", remote), count(remote.misses)),
            (*cost_line("page_pool", "drop", pool), count(pool.misses)),
        ],
        {
            "atomics": mempool.atomics,
            "mempool": mempool.total,
            "pool": pool.total,
            "pool_atomics": pool.atomics,
            "remote_atomics": remote.atomics,
            "misses": mempool.misses,
            "pool_misses": pool.misses,
            "maps": mempool.maps,
            "free": mempool.exposure[FREE],
        },
    )
