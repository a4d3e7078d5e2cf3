# SPDX-License-Identifier: MIT
"""From counts to results: verdicts, ratios, latency models, and what the guest's words mean."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.iommu.preset import PresetError
from emulator.ledger.rules.o18_amortisation import Amortisation
from testbed.laboratory import Exposed, Traffic
from testbed.measured import MapTimes, Reception, Steady
from testbed.results import CaseResult, CurvePoint
from testbed.run import _case_result, _curve_point, _with_ratios, constant_model, preset_model
from testbed.scenario import Case, CurvePlan, known_presets

CASE = Case("page_pool", "virtio-lazy", 64)
TIMES = MapTimes(100.0, 200.0, 90.0, 180.0)
CLEAN: dict[str, Any] = {
    "live": 0,
    "at_release": 0,
    "longest_ns": 0,
    "windows": 0,
    "open": 0,
    "posted": 0,
    "at_once": 0,
}
CHECKED = Reception(1000, 1.0, 0, 0)
RECEIVED: dict[str, Any] = {"packets": 1001, "seconds": 2.0, "errors": 0, "short": 0}


def result(violations: tuple[str, ...] = (), packets: int = 1001, **changes: Any) -> CaseResult:
    """A case of 1001 packets of which everything is right but ``changes``."""
    counts = Amortisation(maps=5, unmaps=4, rx_packets=packets).to_json()
    seen = Reception(**(RECEIVED | {k: v for k, v in changes.items() if k in RECEIVED}))
    exposed = Exposed(**(CLEAN | {k: v for k, v in changes.items() if k in CLEAN}))
    return _case_result(CASE, CHECKED, Steady(seen, counts), TIMES, exposed, list(violations))


def test_case_without_blemish_is_clean_and_carries_the_figures() -> None:
    case = result()
    assert (case.verdict, case.notes, case.violations) == ("clean", (), ())
    assert (case.maps, case.unmaps, case.packets) == (5, 4, 1001)
    assert case.maps_per_packet == pytest.approx(5 / 1001)
    assert case.packets_per_second == 500.0
    assert case.stale_window_ns is None and not case.stale_open
    assert (case.map_ns, case.unmap_ns, case.map_p50_ns, case.unmap_p50_ns) == (100, 200, 90, 180)


def test_case_is_exposed_even_if_the_queue_was_flushed_just_before_the_release() -> None:
    case = result(at_once=64)
    assert (case.verdict, case.stale_at_once, case.live_after_release) == ("exposed", 64, 0)
    assert result(at_once=1).verdict == "clean"


def test_broken_rule_makes_a_case_violated_though_it_is_exposed_too() -> None:
    case = result(violations=("O-3 nic: ...",), windows=2, longest_ns=9)
    assert case.verdict == "violated"
    assert case.violations == ("O-3 nic: ...",)


def test_packet_the_guest_missed_makes_a_case_violated() -> None:
    seen = Reception(**(RECEIVED | {"packets": 1000}))
    counts = Amortisation(rx_packets=1001).to_json()
    case = _case_result(CASE, CHECKED, Steady(seen, counts), TIMES, Exposed(**CLEAN), [])
    assert case.verdict == "violated"
    assert "1000" in case.notes[0] and "1001" in case.notes[0]


@pytest.mark.parametrize("checked", [Reception(1000, 1.0, 1, 0), Reception(999, 1.0, 0, 0)])
def test_packet_the_guest_found_wrong_makes_a_case_violated(checked: Reception) -> None:
    counts = Amortisation(rx_packets=1001).to_json()
    steady = Steady(Reception(**RECEIVED), counts)
    case = _case_result(CASE, checked, steady, TIMES, Exposed(**CLEAN), [])
    assert case.verdict == "violated"
    assert f"{checked.errors} were wrong" in case.notes[0]


@pytest.mark.parametrize("open_windows", [0, 3])
def test_stale_window_makes_a_case_exposed_and_says_if_it_is_still_open(open_windows: int) -> None:
    case = result(windows=3, longest_ns=9_000_000, open=open_windows, at_release=7)
    assert case.verdict == "exposed"
    assert case.stale_window_ns == 9_000_000
    assert case.stale_open is bool(open_windows)
    assert case.live_after_release == 7


def test_driver_that_never_gave_its_memory_back_is_not_reported_as_clean() -> None:
    case = result(at_release=None)
    assert case.verdict == "violated"
    assert "never said" in case.notes[0]


def test_case_without_packets_divides_nothing_by_zero() -> None:
    case = result(packets=0)
    assert (case.maps_per_packet, case.unmaps_per_packet) == (0.0, 0.0)


def point(latency_us: float, rate: float) -> CurvePoint:
    return CurvePoint("page_pool", "intel-strict", latency_us, rate, 100, 1.0, 1.0)


def test_ratios_are_to_latency_zero_wherever_it_stands() -> None:
    ratios = [p.ratio for p in _with_ratios([point(50, 250.0), point(0, 1000.0), point(9, 500.0)])]
    assert ratios == [0.25, 1.0, 0.5]


def test_ratios_without_latency_zero_are_to_the_first_point() -> None:
    assert [p.ratio for p in _with_ratios([point(5, 800.0), point(9, 400.0)])] == [1.0, 0.5]


def test_ratios_of_nothing_and_to_a_rate_of_zero() -> None:
    assert _with_ratios([]) == []
    assert [p.ratio for p in _with_ratios([point(0, 0.0), point(5, 3.0)])] == [0.0, 0.0]


def test_curve_point_has_the_guests_rate_and_the_devices_counts() -> None:
    plan = CurvePlan("intel-strict", (0.0, 5.0), 1.0)
    counts = Amortisation(maps=200, unmaps=50, rx_packets=100).to_json()
    rounds = [Steady(Reception(101, seconds, 0, 0), counts) for seconds in (0.5, 10.0, 0.25)]
    made = _curve_point(plan, "map_per_packet", 5.0, rounds)
    assert (made.maps_per_packet, made.unmaps_per_packet) == (2.0, 0.5)
    assert made.packets_per_second == 200.0, "the median of 200, 10 and 400"
    assert (made.packets, made.seconds, made.latency_us) == (300, 10.75, 5.0)
    silent = Amortisation(rx_packets=0).to_json()
    made = _curve_point(plan, "page_pool", 5.0, [Steady(Reception(0, 0, 0, 0), silent)])
    assert made.maps_per_packet is None and made.packets_per_second == 0.0


@pytest.mark.parametrize("latency_us", [0, 0.5, 10, 4_000_000])
def test_constant_model_delays_every_map_and_unmap_alike(latency_us: float) -> None:
    model = constant_model(latency_us)
    assert {model.map_delay_ns(pages) for pages in (1, 7, 512)} == {round(latency_us * 1000)}
    assert {model.unmap_delay_ns(pages) for pages in (1, 7, 512)} == {round(latency_us * 1000)}


@pytest.mark.parametrize("name", ["none", *known_presets()])
def test_every_bundled_preset_makes_a_model_that_repeats_itself(name: str) -> None:
    first, second = preset_model(name, 5), preset_model(name, 5)
    delays = [(first.map_delay_ns(1), first.unmap_delay_ns(2)) for _ in range(50)]
    assert delays == [(second.map_delay_ns(1), second.unmap_delay_ns(2)) for _ in range(50)]
    assert all(delay >= 0 for pair in delays for delay in pair)
    assert any(delay for pair in delays for delay in pair) == (name != "none")


@pytest.mark.parametrize("name", ["none", *known_presets()])
def test_no_bundled_preset_outlasts_the_patience_of_qemu(name: str) -> None:
    preset_model(name, 1).refuse_beyond(5000)


def test_unknown_preset_is_refused_by_name() -> None:
    with pytest.raises(PresetError, match="vtd-strict"):
        preset_model("vtd", 1)


def test_rate_counts_intervals_not_packets() -> None:
    assert Reception(packets=3, seconds=2.0, errors=0, short=0).packets_per_second == 1.0


@pytest.mark.parametrize(("packets", "seconds"), [(0, 0.0), (1, 0.0), (2, 0.0), (1, 5.0)])
def test_rate_of_too_few_packets_is_zero(packets: int, seconds: float) -> None:
    assert Reception(packets, seconds, 0, 0).packets_per_second == 0.0


def test_traffic_is_sent_in_the_asked_number_size_and_order() -> None:
    frames = list(Traffic(60, 90, count=50, flows=3, seed=9).generator().receive(1000, 0))
    assert len(frames) == 50
    assert {len(frame) for frame in frames} <= set(range(60, 91))
    assert len({len(frame) for frame in frames}) > 5
    again = list(Traffic(60, 90, count=50, flows=3, seed=9).generator().receive(1000, 0))
    assert frames == again
