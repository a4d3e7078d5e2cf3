# SPDX-License-Identifier: MIT
"""The sentences follow the numbers: change one and the sentence about it changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from testbed.report.titles import curve_title, exposure_title, rates_title
from testbed.report.verdict import findings, headline
from testbed.results import RunResult

# Positions in the cases of the fixture, which go by IOMMU, frame size and strategy.
INTEL_MAP_64, INTEL_POOL_64 = 4, 5


def said(run: RunResult, topic: str) -> str:
    return "\n".join(finding.text for finding in findings(run) if finding.topic == topic)


def without_lazy(run: RunResult) -> RunResult:
    kept = tuple(case for case in run.cases if case.iommu != "virtio-lazy")
    return dataclasses.replace(run, cases=kept)


def test_headline_of_an_exposed_run_names_the_iommu(run: RunResult) -> None:
    top = headline(run)
    assert top.level == "warn"
    assert top.text == (
        "No rule was violated in 16 cases, but memory given back stayed reachable for the device "
        "under virtio-lazy."
    )


def test_headline_of_a_clean_run(run: RunResult) -> None:
    top = headline(without_lazy(run))
    assert top.level == "good"
    assert top.text == "No rule was violated in 12 cases, and no mapping outlived its memory."


def test_one_violation_turns_the_headline(with_case: Callable[..., RunResult]) -> None:
    run = with_case(3, verdict="violated", violations=("O-3 nic0 IOVA 0xfffff000",))
    assert headline(run).level == "bad"
    assert headline(run).text == "1 violation of the DMA rules, in 1 of 16 cases."
    assert said(run, "violations") == "page_pool, none, 1500 B: O-3 nic0 IOVA 0xfffff000"


def test_violation_without_a_sentence_is_not_lost(with_case: Callable[..., RunResult]) -> None:
    run = with_case(3, verdict="violated")
    assert headline(run).text == "1 violation of the DMA rules, in 1 of 16 cases."
    assert "a rule was violated" in said(run, "violations")


def test_headline_of_nothing_claims_nothing(bench: RunResult) -> None:
    assert headline(bench).text == "No case was run, so nothing was judged."
    assert said(bench, "violations") == ""


def test_single_stale_mapping_under_strict_is_said(with_case: Callable[..., RunResult]) -> None:
    run = with_case(INTEL_POOL_64, live_after_release=1, stale_window_ns=5_000, verdict="exposed")
    text = said(run, "exposure")
    assert "Under intel-strict up to 1 mapping stayed live" in text
    assert "lived on for 5.00 us (page_pool, 64 B)" in text
    assert "Under virtio-strict no mapping outlived its memory" in text
    assert headline(run).text.endswith("under intel-strict and virtio-lazy.")


def test_closed_window_without_live_mappings_is_exposure_too(
    with_case: Callable[..., RunResult],
) -> None:
    run = with_case(INTEL_MAP_64, stale_window_ns=40_000)
    assert "Under intel-strict mappings outlived their memory" in said(run, "exposure")


def test_live_mapping_alone_is_exposure(with_case: Callable[..., RunResult]) -> None:
    run = with_case(INTEL_MAP_64, live_after_release=3)
    text = said(run, "exposure")
    assert "Under intel-strict up to 3 mappings stayed live" in text
    assert "for a time that was not seen to end" in text


def test_open_window_is_a_lower_bound(run: RunResult) -> None:
    text = said(run, "exposure")
    assert "for more than 2.46 s, and still did when the run ended (page_pool, 1500 B)" in text


def test_no_iommu_is_never_called_safe(run: RunResult) -> None:
    assert "reaches all of the guest's memory" in said(run, "exposure")


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (101_900.0, "1.00x at 64 B"),
        (50_950.0, "2.00x at 64 B (saves 9.81 us a packet)"),
        (203_800.0, "0.50x at 64 B (costs 4.91 us a packet)"),
    ],
)
def test_saving_is_computed_from_both_rates(
    with_case: Callable[..., RunResult], rate: float, text: str
) -> None:
    run = with_case(INTEL_MAP_64, packets_per_second=rate)
    assert f"under intel-strict: {text}" in said(run, "what page_pool saves")


def test_rate_of_zero_divides_nothing(with_case: Callable[..., RunResult]) -> None:
    run = with_case(INTEL_MAP_64, packets_per_second=0.0)
    assert "under intel-strict: 12.29x at 1500 B" in said(run, "what page_pool saves")


def test_pool_that_maps_in_steady_state_is_a_warning(with_case: Callable[..., RunResult]) -> None:
    run = with_case(INTEL_POOL_64, maps_per_packet=0.0123)
    finding = next(each for each in findings(run) if each.topic == "maps per packet")
    assert finding.level == "warn"
    assert finding.text.startswith("page_pool made 0.0000 to 0.0123 maps and 0.0000 unmaps")


def test_no_iommu_is_left_out_of_maps_per_packet(run: RunResult) -> None:
    text = said(run, "maps per packet")
    assert "map_per_packet made 1.0000 maps and 1.0000 unmaps per packet" in text
    assert "none" not in text


def test_share_kept_behind_an_iommu(run: RunResult) -> None:
    text = said(run, "what an IOMMU costs")
    assert "map_per_packet keeps 7 to 8 % under intel-strict" in text


def test_curve_sentence_follows_the_last_point(run: RunResult) -> None:
    assert "218x as many packets, 101 against 0.47 kpps" in said(run, "latency")
    shorter = tuple(point for point in run.curve if point.latency_us <= 50)
    text = said(dataclasses.replace(run, curve=shorter), "latency")
    assert text.startswith("With 50 us more")
    assert "map_per_packet 57 %: 24.0x" not in text
    assert "map_per_packet 57 %: 23.99x as many packets" in text


def test_curve_with_latency_0_alone_says_nothing(run: RunResult) -> None:
    alone = tuple(point for point in run.curve if point.latency_us == 0)
    assert said(dataclasses.replace(run, curve=alone), "latency") == ""


def test_bench_compares_with_the_best_rival(bench: RunResult) -> None:
    text = said(bench, "bench").splitlines()[0]
    assert text.startswith("64 B, none: dmabed page_pool receives 2.34x what virtio-net does")
    assert "under virtio-lazy runs at 100 % of its rate without an IOMMU" in said(bench, "bench")


def test_bench_factor_below_two_is_a_warning(bench: RunResult) -> None:
    slow = tuple(
        dataclasses.replace(row, packets_per_second=100_000.0) if "pool" in row.nic else row
        for row in bench.bench
    )
    levels = [f.level for f in findings(dataclasses.replace(bench, bench=slow)) if "QEMU" in f.text]
    assert levels == ["warn", "warn"]
    assert "good" in [f.level for f in findings(bench)]


def test_nic_that_received_nothing_is_no_rival(bench: RunResult) -> None:
    dead = tuple(
        dataclasses.replace(row, packets_per_second=0.0) if "dmabed" not in row.nic else row
        for row in bench.bench
    )
    assert "QEMU's own" not in said(dataclasses.replace(bench, bench=dead), "bench")


def test_titles_follow_the_numbers(run: RunResult, with_case: Callable[..., RunResult]) -> None:
    assert curve_title(run).startswith("At 1 ms more per map and per unmap, ")
    assert "page_pool receives 218x what map_per_packet does" in curve_title(run)
    slower = with_case(INTEL_POOL_64, packets_per_second=52_050.0)
    assert "page_pool keeps 50 to 99 %" in rates_title(slower)
    assert "virtio-lazy leaves up to 4096 mappings alive" in exposure_title(run)
    assert exposure_title(without_lazy(run)) == "No mapping outlived its memory"


def test_more_stale_at_once_than_at_release_is_said(
    run: RunResult, with_case: Callable[..., RunResult]
) -> None:
    assert "stale at once" not in said(run, "exposure")
    changed = with_case(INTEL_POOL_64, stale_at_once=64, verdict="exposed")
    assert "; at least 64 were stale at once; the longest" in said(changed, "exposure")
