# SPDX-License-Identifier: MIT
"""Claims about the IOMMU: T7, T11, T12, T14, T15."""

from __future__ import annotations

from testbed.twin.thread.experiment import ALL, FREE, MEMORY_MIB, Steady, steady
from testbed.twin.thread.pools import AVERAGE, OFF, STRICT
from testbed.twin.thread.row import Row, count, rate, whole

CACHES = (16, 64, 256, 1024)


def t7() -> Row:
    """A cache of mappings below the DMA API."""
    runs = {
        size: steady(
            "mapping_cache", STRICT, consumer__kind="socket", consumer__hold_us=30.0,
            driver__pool_size=size,
        )
        for size in CACHES
    }  # fmt: skip
    naive = steady("map_per_packet", STRICT, consumer__kind="socket", consumer__hold_us=30.0)
    hits = {size: _hit_ratio(run) for size, run in runs.items()}
    facts = {f"hits_{size}": ratio for size, ratio in hits.items()}
    facts |= {f"free_{size}": run.exposure[FREE] for size, run in runs.items()}
    last = runs[CACHES[-1]]
    return Row(
        7,
        "A cache of mappings below the DMA API",
        "Wilcox",
        "holds, both halves",
        "Keep recently used mappings below the DMA API, for every driver. It trades security: the "
        "device reaches memory after its unmap.",
        "With room for what is under way {high:.0%} of the maps hit and a packet costs "
        "{last:.0f} cycles instead of {naive:.0f}. All the time the device reaches pages that the "
        "allocator has: {free:,.0f} byte-us a packet where a map per packet exposes "
        "{naive_free:.0f}, up to {stale:.0f} stale pages at a time, for as long as nobody pushes "
        "them out. A cache too small for the traffic hits {low:.0%} and exposes memory all the "
        "same.",
        AVERAGE + "; a socket's reader on another CPU frees after 30 us.",
        ("mappings kept", "hit ratio", "cycles", "free memory exposed, byte-us", "stale pages"),
        [
            (
                whole(size),
                f"{hits[size]:.0%}",
                whole(run.total),
                whole(run.exposure[FREE]),
                whole(run.end.counters["stale_peak"]),
            )
            for size, run in runs.items()
        ],
        facts
        | {
            "high": hits[CACHES[-1]],
            "low": hits[CACHES[0]],
            "last": last.total,
            "naive": naive.total,
            "free": last.exposure[FREE],
            "naive_free": naive.exposure[FREE],
            "stale": last.end.counters["stale_peak"],
        },
    )


def _hit_ratio(run: Steady) -> float:
    return run.counters["hits"] / (run.counters["hits"] + run.counters["maps"])


QUEUES = (1, 2, 4, 8)


def t11() -> Row:
    """Many queues, one hypervisor."""
    cases = {
        ("map_per_packet", preset): [_queues("map_per_packet", preset, n) for n in QUEUES]
        for preset in ("power-tce", STRICT, "vtd-strict-fast-iova")
    }
    cases["page_pool", "power-tce"] = [_queues("page_pool", "power-tce", n) for n in QUEUES]
    tce = cases["map_per_packet", "power-tce"]
    pool = cases["page_pool", "power-tce"]
    facts = {f"tce_{n}": run.pps for n, run in zip(QUEUES, tce, strict=True)}
    facts |= {f"pool_{n}": run.pps for n, run in zip(QUEUES, pool, strict=True)}
    facts |= {
        f"{preset}_{n}": run.pps
        for preset in (STRICT, "vtd-strict-fast-iova")
        for n, run in zip(QUEUES, cases["map_per_packet", preset], strict=True)
    }
    return Row(
        11,
        "A million updates a second",
        "Cascardo",
        "holds",
        "On Power a table entry costs about a microsecond to change, a million a second in all: a "
        "map and an unmap per packet is a no-no. And it does not scale: the address space needs "
        "another allocator.",
        "One queue with a map per packet makes {tce1:.2f} million packets a second under "
        "`power-tce`, eight make {tce8:.2f}: two updates a packet, and the million is spent. CPUs "
        "with a pool could make {pool1:.0f} with one queue and {pool8:.0f} with eight. On VT-d of "
        "2016 the lock of the IOVA tree stops eight queues at {strict8:.2f} million; with an "
        "allocator for each CPU, which came later that year, it is the invalidation queue, at "
        "{fast8:.2f}.",
        AVERAGE + ", dropped; CPUs meet only at the hypervisor, the IOVA lock and the "
        "invalidation queue, and no line limits them. The million a second is one remark, "
        "nobody has published a measurement: see the sweep in the preset.",
        ("packets a second", *(f"{n} queue{'s' * (n > 1)}" for n in QUEUES)),
        [
            (f"`{strategy}`, `{preset}`", *(rate(run.pps) for run in runs))
            for (strategy, preset), runs in cases.items()
        ],
        facts
        | {
            "tce1": tce[0].pps / 1e6,
            "tce8": tce[-1].pps / 1e6,
            "pool1": pool[0].pps / 1e6,
            "pool8": pool[-1].pps / 1e6,
            "strict8": facts[f"{STRICT}_8"] / 1e6,
            "fast8": facts["vtd-strict-fast-iova_8"] / 1e6,
        },
    )


def _queues(strategy: str, preset: str, queues: int) -> Steady:
    each = 512  # whole polls
    return steady(
        strategy, preset, each * queues, each * queues, driver__queues=queues, driver__ring=128,
        memory__mib=32,
    )  # fmt: skip


def t12() -> Row:
    """All memory mapped when the driver probes."""
    window = steady("map_per_packet", "power-direct-window")
    sums = steady("direct_window", "power-direct-window")
    calls = steady("map_per_packet", "power-tce")
    pool = steady("page_pool", "power-tce")
    cases = (
        ("`map_per_packet`, `power-tce`", calls),
        ("`map_per_packet`, `power-direct-window`", window),
        ("`direct_window`, `power-direct-window`", sums),
        ("`page_pool`, `power-tce`", pool),
    )
    iommu = sum(sums.cycles[key] for key in ("IOVA", "page table", "invalidation", "waiting"))
    seconds_per_packet = sums.end.seconds / sums.end.packets
    return Row(
        12,
        "The direct window",
        "Cascardo",
        "holds: free, and everything exposed",
        "Enlarge the DMA window and map all memory when the driver probes: a map is a sum, an "
        "unmap is nothing.",
        "Mapping costs {iommu:.0f} cycles a packet, where calls of the hypervisor cost "
        "{calls:.0f}. What remains, {sums:.0f} cycles, is the page allocator. The device reaches "
        "all memory that is not posted to it, all the time: {exposed:,.0f} byte-us a packet, "
        "{factor:,.0f} times what the pool leaves open ({pool_exposed:,.0f}). The pool costs "
        "{pool:.0f} cycles under the slow calls: it makes the window needless.",
        AVERAGE + f"; {MEMORY_MIB} MiB of memory, and exposure grows with it.",
        ("", "IOMMU cycles", "all cycles", "exposed byte-us"),
        [
            (
                name,
                whole(sum(run.cycles[k] for k in ("IOVA", "page table", "invalidation"))),
                whole(run.total),
                whole(run.exposed),
            )
            for name, run in cases
        ],
        {
            "iommu": iommu,
            "sums": sums.total,
            "calls": sum(calls.cycles[key] for key in ("IOVA", "page table")),
            "exposed": sums.exposure[ALL],
            "whole": (MEMORY_MIB << 20) * seconds_per_packet * 1e6,
            "pool": pool.total,
            "pool_exposed": pool.exposed,
            "factor": sums.exposed / pool.exposed,
        },
    )


PRESETS = (
    "passthrough",
    "vtd-strict",
    "vtd-strict-fast-iova",
    "vtd-lazy",
    "vtd-lazy-fast-iova",
    "smmu-like",
    "power-tce",
    "power-direct-window",
)


def t14() -> Row:
    """No IOMMU as the baseline."""
    naive = {preset: steady("map_per_packet", preset) for preset in PRESETS}
    pool = {preset: steady("page_pool", preset) for preset in PRESETS}
    base, pool_base = naive[OFF].total, pool[OFF].total
    facts = {f"naive_{preset}": run.total / base for preset, run in naive.items()}
    facts |= {f"pool_{preset}": run.total / pool_base for preset, run in pool.items()}
    return Row(
        14,
        "Without an IOMMU",
        "Cascardo",
        "the baseline",
        "No IOMMU, or passthrough, is the honest alternative to a weak one: KVM on x86 maps the "
        "whole guest.",
        "Against it a map per packet costs {strict:.0f} times the cycles under strict "
        "invalidation as it was in 2016, {fast:.0f} times with the better IOVA allocator, "
        "{lazy:.1f} times lazily. The pool costs the same under every preset ({pool_spread:.2f} "
        "times at most): it is what makes protection free of CPU time. Passthrough exposes "
        "{exposed:,.0f} byte-us a packet, everything there is; lazy is cheaper than strict and "
        "leaves {lazy_free:,.0f} byte-us of freed memory open, strict none.",
        AVERAGE + f"; {MEMORY_MIB} MiB of memory.",
        ("preset", "map per packet", "ratio", "pool", "ratio", "map per packet exposes, byte-us"),
        [
            (
                f"`{preset}`",
                whole(naive[preset].total),
                count(naive[preset].total / base),
                whole(pool[preset].total),
                count(pool[preset].total / pool_base),
                whole(naive[preset].exposed),
            )
            for preset in PRESETS
        ],
        facts
        | {
            "strict": naive[STRICT].total / base,
            "fast": naive["vtd-strict-fast-iova"].total / base,
            "lazy": naive["vtd-lazy-fast-iova"].total / base,
            "pool_spread": max(run.total for run in pool.values()) / pool_base,
            "exposed": naive[OFF].exposure[ALL],
            "lazy_free": naive["vtd-lazy"].exposure[FREE],
            "strict_free": naive[STRICT].exposure[FREE],
            "strict_exposed": naive[STRICT].exposed,
            "lazy_total": naive["vtd-lazy"].total,
            "strict_total": naive[STRICT].total,
        },
    )


def t15() -> Row:
    """Two devices and one domain."""
    two = {"driver__queues": 2, "devices__count": 2, "memory__mib": 32}
    apart = steady("page_pool", STRICT, **two)
    shared = steady("page_pool", STRICT, **two, devices__shared_domain=True)
    lazy = steady("page_pool", "vtd-lazy", **two)
    off = steady("page_pool", OFF, **two)
    cases = (
        ("strict, a domain each", apart),
        ("lazy, a domain each", lazy),
        ("strict, one domain for both", shared),
        ("no IOMMU", off),
    )
    return Row(
        15,
        "One pool for each device",
        "Cascardo",
        "holds",
        "The pool must be per device, or one device can write into the memory of another.",
        "Two NICs, each of which tries to write where the other has a buffer posted, once a poll. "
        "With a domain each none of the writes lands; with one domain, which is what a shared "
        "pool amounts to, {shared:.0f} do, as they do without an IOMMU ({off:.0f}). Rule O-2 "
        "counts them.",
        AVERAGE + "; the writes are a model of a hostile or broken device, not of traffic.",
        ("", "writes that reached the other's buffers (O-2)", "other violations"),
        [
            (name, whole(run.end.violations.get("O-2", 0)), whole(_others(run)))
            for name, run in cases
        ],
        {
            "apart": apart.end.violations.get("O-2", 0),
            "lazy": lazy.end.violations.get("O-2", 0),
            "shared": shared.end.violations.get("O-2", 0),
            "off": off.end.violations.get("O-2", 0),
            "others": sum(_others(run) for _, run in cases),
        },
    )


def _others(run: Steady) -> int:
    return sum(number for rule, number in run.end.violations.items() if rule != "O-2")
