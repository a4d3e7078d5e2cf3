# SPDX-License-Identifier: MIT
"""The commands of the twin as a user types them. Two strategies only: each is compiled once."""

import json
from dataclasses import replace

import pytest

from testbed.cli import main
from testbed.comparison import Comparison
from testbed.results import CaseResult, HostFacts, RunResult
from testbed.sweep.point import Point

FEW = ["--set", "packets=20000"]


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.chdir(tmp_path)


def test_one_run_shows_its_cycles_and_writes_them(capsys, tmp_path):
    files = ["--json", "r.json", "--csv", "r.csv"]
    assert main(["twin", "line", "--set", "strategy=map_per_packet", *FEW, *files]) == 0
    out = capsys.readouterr().out
    for wanted in ("map_per_packet under vtd-strict", "invalidation", "201.6", "No rule"):
        assert wanted in out
    point = Point.from_json(json.loads((tmp_path / "r.json").read_text())[0])
    assert point.result.maps_per_packet == pytest.approx(1 + 512 / 20000)
    assert (tmp_path / "r.csv").read_text().count("\n") == 2


def test_a_timeline_in_the_middle_of_a_run_is_written(capsys, tmp_path):
    trace = ["--trace", "t.json", "--trace-polls", "4", "--trace-after", "10000"]
    assert main(["twin", "line", *FEW, *trace]) == 0
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    polls = [e for e in events if e["name"] == "poll"]
    assert len(polls) == 4
    assert min(e["ts"] for e in polls) > 100  # us: 10 000 packets at some 80 cycles each


def test_a_sweep_goes_on_from_its_file_and_prints_the_same_table(capsys, tmp_path):
    command = ["sweep", "line", *FEW, "--vary", "preset=passthrough,vtd-strict", "--workers", "1"]
    command += ["--vary", "driver.queues=1,2", "--points", "p.jsonl"]
    tables = []
    for _ in range(2):
        assert main([*command, "--csv", "s.csv"]) == 0
        tables.append((tmp_path / "s.csv").read_text())
    assert tables[0] == tables[1]
    assert (tmp_path / "p.jsonl").read_bytes().count(b"\n") == 4
    assert "driver." in capsys.readouterr().out


def test_a_pair_that_does_not_apply_is_said_and_is_no_failure(capsys):
    command = ["sweep", "line", *FEW, "--vary", "strategy=contiguous_iova", "--workers", "1"]
    assert main([*command, "--vary", "preset=passthrough"]) == 0
    assert "not applicable: contiguous_iova under passthrough" in capsys.readouterr().out


def test_a_comparison_becomes_a_folder(capsys, tmp_path):
    two = ["--strategies", "page_pool,map_per_packet", "--presets", "vtd-strict,passthrough"]
    assert main(["compare", *two, *FEW]) == 0
    folder = tmp_path / "out" / "latest-compare"
    found = Comparison.load(folder / "comparison.json")
    assert [p.status for p in found.points].count("done") == 4 + 20 + 20
    assert (folder / "index.html").is_file()
    rising = [p.result.maps_per_packet for p in found.amortisation[:10]]
    assert rising == sorted(rising, reverse=True)
    assert rising[0] > 1 > rising[1] > 0.4 > rising[-1]


def test_what_is_mistyped_is_refused_with_what_is_allowed(capsys):
    assert main(["compare", "--strategies", "page_pol"]) == 1
    assert 'did you mean "page_pool"' in capsys.readouterr().err
    assert main(["twin", "lin"]) == 1
    assert 'did you mean "line"' in capsys.readouterr().err
    assert main(["twin", "line", "--set", "driver.rings=1"]) == 1
    assert "driver.ring" in capsys.readouterr().err


def measured(strategy, iommu, maps, unmaps, live=0, packets=4000):
    return CaseResult(
        strategy=strategy,
        iommu=iommu,
        frame_bytes=64,
        packets=packets,
        maps=maps,
        unmaps=unmaps,
        maps_per_packet=maps / packets,
        unmaps_per_packet=unmaps / packets,
        packets_per_second=1000.0,
        live_after_release=live,
        stale_at_once=live,
        verdict="exposed" if live else "clean",
    )


def results(tmp_path, *cases):
    run = RunResult(
        created="2026-01-01T00:00:00+00:00",
        scenario="quick",
        title="t",
        seed=1,
        command="dmabed run quick",
        host=HostFacts(2, "tcg"),
        qemu_version="10.1.1",
        kernel_release="6.12",
        cases=cases,
    )
    (tmp_path / "results.json").write_text(run.to_json())
    return ["predict", "--results", "results.json", "--json", "rows.json"]


def test_counts_are_predicted_to_the_last_one(capsys, tmp_path):
    command = results(
        tmp_path,
        measured("map_per_packet", "none", 0, 0),
        measured("page_pool", "none", 0, 0),
        measured("map_per_packet", "intel-strict", 4000, 4000),
        measured("page_pool", "virtio-strict", 0, 0),
        measured("map_per_packet", "virtio-lazy", 4000, 4000, live=5),
        measured("page_pool", "virtio-lazy", 0, 0, live=124),
    )
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "4 of 4 cases" in out and "0 to 255" in out and "10 ms" in out
    assert all(row["agrees"] for row in json.loads((tmp_path / "rows.json").read_text()))


def test_a_frame_of_three_buffers_is_three_maps(tmp_path):
    case = replace(measured("map_per_packet", "intel-strict", 12000, 12000), frame_bytes=9000)
    assert main(results(tmp_path, case)) == 0


@pytest.mark.parametrize(
    "case",
    [
        measured("map_per_packet", "intel-strict", 4000, 3999),
        measured("page_pool", "intel-strict", 1, 0),
        measured("page_pool", "intel-strict", 0, 0, live=1),
        measured("page_pool", "virtio-lazy", 0, 0, live=256),
    ],
)
def test_one_count_more_or_less_is_a_difference(capsys, tmp_path, case):
    assert main(results(tmp_path, case)) == 4
    assert "DIFFERENT" in capsys.readouterr().out


def test_results_without_cases_cannot_be_predicted(capsys, tmp_path):
    assert main(results(tmp_path)) == 1
    assert "dmabed run" in capsys.readouterr().err
