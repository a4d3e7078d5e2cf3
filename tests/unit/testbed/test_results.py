# SPDX-License-Identifier: MIT
"""Results survive JSON unchanged, and anything that is not exactly a result is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.errors import ResultsError
from testbed.results import (
    SCHEMA,
    CaseResult,
    CurvePoint,
    HostFacts,
    Judgement,
    RuleSeen,
    RunResult,
    baseline,
    find_case,
    rate_ratio,
)
from testbed.scenario import IOMMUS, STRATEGIES

#: A busy machine is no reason to fail.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

COUNTS = st.integers(0, 2**63)
AMOUNTS = st.floats(0, 1e18, allow_nan=False)
CASES = st.builds(
    CaseResult,
    strategy=st.sampled_from(STRATEGIES),
    iommu=st.sampled_from(IOMMUS),
    frame_bytes=st.integers(1, 9000),
    packets=COUNTS,
    maps=COUNTS,
    unmaps=COUNTS,
    maps_per_packet=AMOUNTS,
    unmaps_per_packet=AMOUNTS,
    packets_per_second=AMOUNTS,
    live_after_release=COUNTS,
    verdict=st.sampled_from(["clean", "exposed", "violated"]),
    map_ns=st.none() | AMOUNTS,
    stale_window_ns=st.none() | COUNTS,
    stale_open=st.booleans(),
    violations=st.lists(st.text(), max_size=3).map(tuple),
)
POINTS = st.builds(
    CurvePoint,
    strategy=st.sampled_from(STRATEGIES),
    iommu=st.sampled_from(IOMMUS),
    latency_us=AMOUNTS,
    packets_per_second=AMOUNTS,
    packets=COUNTS,
    seconds=AMOUNTS,
    ratio=AMOUNTS,
)
RUNS = st.builds(
    RunResult,
    created=st.text(),
    scenario=st.text(),
    title=st.text(),
    seed=COUNTS,
    command=st.text(),
    host=st.builds(HostFacts, cpu_count=st.integers(1, 999), accel=st.sampled_from(["kvm", "tcg"])),
    qemu_version=st.text(),
    kernel_release=st.text(),
    cases=st.lists(CASES, max_size=3).map(tuple),
    curve=st.lists(POINTS, max_size=3).map(tuple),
    judged=st.lists(
        st.builds(
            Judgement,
            boot=st.text(),
            rules=st.lists(
                st.builds(
                    RuleSeen,
                    number=st.text(),
                    title=st.text(),
                    not_judged=st.lists(st.text(), max_size=2).map(tuple),
                ),
                max_size=2,
            ).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    schema=st.just(SCHEMA),
)


@PATIENT
@given(RUNS)
def test_json_round_trip_changes_nothing(run: RunResult) -> None:
    again = RunResult.from_json(run.to_json())
    assert again == run
    assert again.to_json() == run.to_json()


def changed(run: RunResult, change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(run.to_json())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema="dmabed.results/4"), '"dmabed.results/4" is unknown'),
        (lambda d: d.pop("schema"), "schema: missing"),
        (lambda d: d.update(colour=1), 'unknown key "colour"; known: created'),
        (lambda d: d.pop("seed"), 'the key "seed" is missing'),
        (lambda d: d["cases"][2].pop("maps"), r'cases\[2\]: the key "maps" is missing'),
        (lambda d: d["cases"][2].update(packets=1.5), r"cases\[2\]\.packets: 1.5 is not a whole"),
        (lambda d: d["cases"][2].update(packets=True), r"cases\[2\]\.packets: true is not a whole"),
        (lambda d: d["cases"][2].update(packets=-1), r"cases\[2\]\.packets: -1 is not at least 0"),
        (lambda d: d["cases"][0].update(iommu="amd"), r"iommu: \"amd\" is not one of: none, intel"),
        (lambda d: d["cases"][0].update(stale_open=0), "stale_open: 0 is not true or false"),
        (lambda d: d["cases"][0].update(violations="x"), "violations: \"x\" is not a list"),
        (lambda d: d["curve"][1].update(ratio="1"), r'curve\[1\]\.ratio: "1" is not a finite'),
        (lambda d: d["curve"][1].update(ratio=10**400), "is not a finite number"),
        (lambda d: d.update(host=[]), r"host: \[\] is not an object"),
        (lambda d: d["host"].update(accel="xen"), "host.accel: \"xen\" is not one of: kvm, tcg"),
    ],
)  # fmt: skip
def test_document_that_is_no_result_is_refused(
    run: RunResult, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(ResultsError, match=message):
        RunResult.from_json(changed(run, change))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema": NaN}', "[" * 100_000, "1" * 5000, '{"a": 1, "a": 1}',
     b"\xff\xfe\xff", '{"schema": 3}'],
)  # fmt: skip
def test_text_that_is_no_results_file_is_refused(text: str | bytes) -> None:
    with pytest.raises(ResultsError):
        RunResult.from_json(text)


def test_key_given_twice_is_refused_even_if_both_are_fine(run: RunResult) -> None:
    text = run.to_json().replace('"seed": 1', '"seed": 1, "seed": 1', 1)
    with pytest.raises(ResultsError, match='the key "seed" occurs twice'):
        RunResult.from_json(text)


@PATIENT
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(ResultsError):
        RunResult.from_json(data)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "fast", np.int64(3)])
def test_value_that_could_not_be_read_back_is_not_written(
    with_case: Callable[..., RunResult], value: object
) -> None:
    with pytest.raises(ResultsError):
        with_case(3, packets_per_second=value).to_json()


def test_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(ResultsError, match=r"results\.json: No such file"):
        RunResult.load(path)
    path.write_text("{}")
    with pytest.raises(ResultsError, match=r"results\.json: schema: missing"):
        RunResult.load(path)


def test_baseline_is_page_pool_without_iommu_at_the_same_frame_size(run: RunResult) -> None:
    case = find_case(run.cases, "map_per_packet", "intel-strict", 1500)
    assert case is not None
    reference = baseline(case, run.cases)
    assert reference is not None
    assert (reference.strategy, reference.iommu, reference.frame_bytes) == (
        "page_pool", "none", 1500,
    )  # fmt: skip
    assert rate_ratio(case, reference) == pytest.approx(7_020 / 88_200)


def test_no_ratio_without_a_baseline(run: RunResult) -> None:
    case = run.cases[0]
    assert baseline(case, ()) is None
    assert rate_ratio(case, None) is None
    assert rate_ratio(case, dataclasses.replace(case, packets_per_second=0.0)) is None
