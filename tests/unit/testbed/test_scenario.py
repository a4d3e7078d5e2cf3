# SPDX-License-Identifier: MIT
"""A scenario is read as it was written, or refused with line, reason and allowed values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.errors import ScenarioError, ScenarioMissingError
from testbed.scenario import (
    IOMMUS,
    MAX_BYTES,
    RX_MODES,
    STRATEGIES,
    Case,
    bundled_scenarios,
    frame_length_bytes,
    load_scenario,
    parse_scenario,
)

#: A busy machine is no reason to fail.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

GOOD = """\
title = "t"
seed = 7
[cases]
strategies = ["page_pool"]
iommus = ["none", "virtio-lazy"]
frame_bytes = [64]
packets = 10
[curve]
iommu = "intel-strict"
latencies_us = [0, 10.5]
seconds = 1
[nic]
rx_ring = 256
"""


def refusal(text: str | bytes, **kwargs: object) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(raw, "s.toml", **kwargs)  # type: ignore[arg-type]
    return str(caught.value)


def test_values_of_a_good_scenario_are_kept() -> None:
    scenario = parse_scenario(GOOD.encode(), "s.toml", "s")
    assert (scenario.name, scenario.source, scenario.seed) == ("s", "s.toml", 7)
    assert scenario.cases is not None
    assert list(scenario.cases) == [
        Case("page_pool", "none", 64),
        Case("page_pool", "virtio-lazy", 64),
    ]
    assert len(scenario.cases) == 2
    assert scenario.curve is not None
    assert scenario.curve.latencies_us == (0, 10.5)
    assert scenario.curve.strategies == STRATEGIES
    assert (scenario.nic.rx_ring, scenario.nic.tx_ring, scenario.vm.cpus) == (256, 1024, 1)
    assert scenario.bench is None


@pytest.mark.parametrize("name", ["run", "quick", "bench"])
def test_bundled_scenarios_load(name: str) -> None:
    assert name in bundled_scenarios()
    assert load_scenario(name).name == name


def test_run_scenario_covers_every_case_and_every_latency() -> None:
    scenario = load_scenario("run")
    assert scenario.cases is not None
    wanted = {Case(s, i, f) for s in STRATEGIES for i in IOMMUS for f in (64, 1500)}
    assert set(scenario.cases) == wanted
    assert scenario.curve is not None
    assert scenario.curve.latencies_us == (0, 10, 50, 200, 1000)


def test_cases_of_one_iommu_follow_each_other() -> None:
    order = [case.iommu for case in load_scenario("run").cases or ()]
    assert order == sorted(order, key=order.index)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "seed = 7",
            "sede = 7",
            "s.toml:2: unknown key sede; allowed in the scenario: title, seed, cases, curve, "
            'bench, vm, nic, latency; did you mean "seed"?',
        ),
        (
            '"virtio-lazy"]',
            '"virtio-lasy"]',
            's.toml:5: cases.iommus[1] = "virtio-lasy" is unknown; allowed: none, intel-strict, '
            "virtio-lazy, virtio-strict, intel-lazy, amd-lazy, amd-strict; "
            'did you mean "virtio-lazy"?',
        ),
        (
            '["page_pool"]',
            "[]",
            "s.toml:4: cases.strategies = [] is an empty list; allowed: a list, each element once, "
            f"of: {', '.join(RX_MODES)}",
        ),
        (
            '["none", "virtio-lazy"]',
            '[\n  "none", # all of it\n\n  "none",\n]',
            's.toml:8: cases.iommus[1] = "none" repeats cases.iommus[0]; allowed: none, '
            "intel-strict, virtio-lazy, virtio-strict, intel-lazy, amd-lazy, amd-strict",
        ),
        (
            "packets = 10",
            "packets = true",
            "s.toml:7: cases.packets = true is not a whole number; allowed: a whole number from 1 "
            "to 1000000000",
        ),
        (
            "frame_bytes = [64]",
            "frame_bytes = [64, 63]",
            "s.toml:6: cases.frame_bytes[1] = 63 is out of range; allowed: a whole number from 64 "
            "to 9000",
        ),
        (
            "seconds = 1",
            'seconds = "1"',
            's.toml:11: curve.seconds = "1" is not a number; allowed: a number from 0.05 to 600 '
            "(seconds)",
        ),
        (
            "seconds = 1",
            "seconds = nan",
            "s.toml:11: curve.seconds = nan is out of range; allowed: a number from 0.05 to 600 "
            "(seconds)",
        ),
        (
            "rx_ring = 256",
            "rx_ring = 300",
            "s.toml:13: nic.rx_ring = 300 is not a power of two; allowed: a power of two from 64 "
            "to 4096",
        ),
        (
            'iommu = "intel-strict"\n',
            "",
            "s.toml:8: [curve] lacks the key iommu; allowed: intel-strict, virtio-lazy, "
            "virtio-strict, intel-lazy, amd-lazy, amd-strict",
        ),
        (
            "[nic]\nrx_ring",
            "nic",
            "s.toml:12: unknown key curve.nic; allowed in [curve]: iommu, latencies_us, seconds, "
            "strategies, frame_bytes, rounds",
        ),
        ("seed = 7", "vm = 4", "s.toml:2: vm = 4 is not a table; write [vm]"),
        (
            "[0, 10.5]",
            "[10.5]",
            "s.toml:10: curve.latencies_us = [10.5] lacks 0, which every ratio is taken to",
        ),
        (
            "packets = 10",
            "packets = 10\nseconds = 1",
            "s.toml:8: [cases] has both packets and seconds; exactly one of them ends a case",
        ),
        (
            "packets = 10\n",
            "",
            "s.toml:3: [cases] has neither packets nor seconds; exactly one of them ends a case",
        ),
        (
            'title = "t"',
            'title = " "',
            's.toml:1: title = " " is empty, too long or has control characters; allowed: a text '
            "of 1 to 200 characters on one line",
        ),
    ],
)
def test_refusal_names_line_reason_and_allowed_values(old: str, new: str, message: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    assert refusal(text) == message


def test_every_fault_is_reported_in_order_of_lines() -> None:
    text = GOOD.replace("seed = 7", "seed = -1").replace("rx_ring = 256", "rx_ring = 1")
    lines = refusal(text).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "13"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a = 1\nb = \n", "s.toml:2: not TOML: Invalid value"),
        ('title = "t"\nx = [1,\n', "s.toml:2: not TOML: "),
        ("a = 1\na = 2\n", "s.toml:2: not TOML: Cannot overwrite a value"),
        ("", "s.toml:1: the scenario lacks the key title"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_line(text: str, start: str) -> None:
    assert refusal(text).startswith(start)


def test_nothing_to_run_is_refused() -> None:
    message = "s.toml:1: nothing to run; write at least one of: [cases], [curve], [bench]"
    assert refusal('title = "t"\n') == message


def test_unknown_preset_is_refused_with_those_that_exist() -> None:
    text = GOOD + '[latency]\npreset = "vtd-strct"\n'
    assert refusal(text, presets=["vtd-strict", "power-tce"]) == (
        's.toml:15: latency.preset = "vtd-strct" is unknown; allowed: none, vtd-strict, power-tce; '
        'did you mean "vtd-strict"?'
    )
    fine = text.replace("strct", "strict").encode()
    assert parse_scenario(fine, "s.toml", presets=["vtd-strict"]).latency.preset == "vtd-strict"


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    assert refusal(b'title = "t"\nseed = \xff\n').startswith("s.toml:2: byte 0xff is not UTF-8")


def test_oversized_file_is_refused() -> None:
    assert "longer than" in refusal(b"#" * (MAX_BYTES + 1))


def test_line_endings_of_another_system_are_understood() -> None:
    crlf = GOOD.replace("\n", "\r\n").encode()
    assert parse_scenario(crlf, "s.toml").seed == 7
    assert refusal(GOOD.replace("= 256", "= 1").replace("\n", "\r\n")).startswith("s.toml:13:")


def test_missing_scenario_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ScenarioMissingError, match=r'no scenario "rum".*did you mean "run"\?'):
        load_scenario("rum")
    with pytest.raises(ScenarioMissingError, match="No such file"):
        load_scenario(tmp_path / "absent.toml")
    with pytest.raises(ScenarioMissingError, match="Is a directory"):
        (tmp_path / "d.toml").mkdir()
        load_scenario(tmp_path / "d.toml")


def test_a_file_is_read_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_scenario(path).name == "mine"


@pytest.mark.parametrize(("label", "length"), [(64, 60), (1500, 1514), (9000, 9014)])
def test_frame_label_stands_for_a_length_without_fcs(label: int, length: int) -> None:
    assert frame_length_bytes(label) == length


@PATIENT
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_by_name(raw: bytes) -> None:
    with pytest.raises(ScenarioError):
        parse_scenario(raw, "s.toml")


@PATIENT
@given(st.lists(st.sampled_from([*GOOD.splitlines(), "x = [[1]]", "[a.b]", '"q.r" = {s = 1}'])))
def test_shuffled_lines_never_raise_anything_else(lines: list[str]) -> None:
    try:
        parse_scenario("\n".join(lines).encode(), "s.toml")
    except ScenarioError as error:
        assert all(1 <= problem.line <= max(1, len(lines)) for problem in error.problems)
