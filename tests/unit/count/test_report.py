# SPDX-License-Identifier: MIT
"""What a count's rows become: verdicts on claims, tables, a picture, files, a command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed import cli, strict_json
from testbed.count import command
from testbed.count.claims import claims
from testbed.count.dump import parse_dumps
from testbed.count.parts import PARTS
from testbed.count.plot import COLOUR, count_title, draw_count
from testbed.count.results import FATES, MODES, CountResult, CountRow
from testbed.count.run import COUNTED_IOMMUS, CountPlan, row_of
from testbed.count.session import Sample
from testbed.count.symbols import parse_kallsyms
from testbed.count.table import count_text
from testbed.scenario import Iommu
from tests.unit.count.support import result, row
from tests.unit.count.test_dump import DUMP, KALLSYMS


def verdicts(*rows: CountRow) -> dict[str, str]:
    return {claim.number: claim.judgement for claim in claims(result(*rows))}


ATOMIC = {"driver": (100.0, 1.0), "page allocator": (20.0, 1.0)}
SINGLE = {"driver": (100.0, 0.0), "page allocator": (20.0, 1.0)}
FREE = {"driver": (100.0, 0.0), "stack": (20.0, 0.3)}


@pytest.mark.parametrize(
    ("rows", "number", "judgement"),
    [
        ([row("page_pool", parts=FREE)], "T1", "holds"),
        ([row("page_pool", parts=FREE, maps=0.01)], "T1", "does not hold"),
        ([row("page_pool", parts=SINGLE)], "T1", "does not hold"),
        (
            [row("array_cache", fate="drop", parts=FREE), row("array_cache", maps=1.0)],
            "T2",
            "in part",
        ),
        ([row("array_cache", fate="drop", parts=FREE), row("array_cache")], "T2", "holds"),
        (
            [row("array_cache", fate="drop", parts=SINGLE), row("array_cache", maps=1.0)],
            "T2",
            "does not hold",
        ),
        ([row("half_page_flip", parts=ATOMIC)], "T3", "holds"),
        ([row("half_page_flip", parts=SINGLE)], "T3", "does not hold"),
        ([row("order_fallback", maps=1 / 16)], "T4", "in part"),
        ([row("order_fallback", maps=1.0)], "T4", "does not hold"),
        ([row("order0_recycle", allocations=0.001)], "T5", "holds"),
        ([row("order0_recycle", allocations=0.2)], "T5", "does not hold"),
        ([row("bulk_map", parts=SINGLE), row("map_per_packet")], "T10", "holds"),
        ([row("bulk_map"), row("map_per_packet")], "T10", "in part"),
        ([row("page_pool", parts={"stack": (700.0, 0.0)})], "T20", "holds"),
        ([row("page_pool", parts={"stack": (900.0, 0.0)})], "T20", "does not hold"),
    ],
)
def test_verdict_does_not_follow_from_the_counts(rows: list[CountRow], number: str, judgement: str):
    assert verdicts(*rows)[number] == judgement


def test_claim_is_judged_without_the_rows_it_needs():
    assert verdicts() == {}
    assert set(verdicts(row("array_cache"), row("bulk_map"), row("shadow_copy"))) == set()


def whole(iommus: Sequence[Iommu] = ("none",)) -> CountResult:
    rows = [
        row(mode, iommu, fate, parts={"driver": (100.0 + 10 * place, 0.0), "stack": (500.0, 0.25)})
        for iommu in iommus
        for place, mode in enumerate(MODES)
        for fate in FATES
    ]
    return result(*rows)


def test_table_lacks_a_strategy_an_iommu_or_a_number():
    text = count_text(whole(COUNTED_IOMMUS))
    for word in (*MODES, *COUNTED_IOMMUS, "T10", "640", "0.25"):
        assert word in text
    assert max(len(line) for line in text.splitlines()) <= 160


def test_row_that_was_not_counted_breaks_the_table_or_the_picture():
    partial = result(row("page_pool"), row("page_pool", fate="drop"), row("bulk_map"))
    assert "bulk_map" in count_text(partial)
    assert draw_count(partial).png.startswith(b"\x89PNG")


def test_picture_differs_for_the_same_counts_or_has_a_part_without_colour():
    first, second = draw_count(whole()), draw_count(whole())
    assert first == second
    assert set(COLOUR) == set(PARTS)
    assert len(set(COLOUR.values())) == len(COLOUR)
    text = first.svg.decode()
    assert all(colour in text for colour in (COLOUR["driver"], COLOUR["stack"]))


def test_title_states_another_ratio_than_the_rows():
    shown = count_title(
        result(
            row("page_pool", parts={"stack": (500.0, 0.0)}),
            row("map_per_packet", parts={"stack": (1000.0, 0.0)}),
            row("page_pool", "intel-strict", parts={"stack": (500.0, 0.0)}),
            row("map_per_packet", "intel-strict", parts={"stack": (2000.0, 0.0)}),
        )
    )
    assert "intel-strict" in shown
    assert "4.00x" in shown


def test_files_are_missing_or_json_does_not_read_back(tmp_path: Path):
    counted = whole()
    command.write_count(counted, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"count.json", "count.txt", "count.png", "count.svg"}
    read = strict_json.parse_json((tmp_path / "count.json").read_text())
    assert strict_json.decode(CountResult, read, "count.json") == counted


def test_row_is_not_what_was_dumped_divided_by_packets():
    dumps = tuple(parse_dumps(DUMP))
    sample = Sample(dumps, packets=5, device={"map_pages": 10, "unmap_pages": 5})
    found = row_of(sample, parse_kallsyms(KALLSYMS), "page_pool", "none", "drop")
    assert (found.instructions, found.atomics, found.loads, found.stores) == (30, 1, 6.2, 4.2)
    assert (found.maps, found.device_maps, found.device_unmaps) == (0.8, 2, 1)
    assert (found.part("driver").instructions, found.part("slab").instructions) == (20, 0)
    assert (found.polls, found.interrupts) == (3, 1)


def parse(words: list[str]) -> argparse.Namespace:
    return cli._parser().parse_args(["count", *words])


def test_command_line_counts_less_than_everything_or_more_than_asked():
    default = parse([])
    assert len(CountPlan(default.rx_mode, default.iommu, default.fate)) == 8 * 4 * 3
    some = parse(
        ["--rx-mode", "page_pool", "bulk_map", "--iommu", "none", "--fate", "drop", "--bursts", "1"]
    )
    assert len(CountPlan(some.rx_mode, some.iommu, some.fate)) == 2
    assert some.bursts == 1


@pytest.mark.parametrize("words", [["--rx-mode", "zero_copy"], ["--fate", "lost"], ["quick"]])
def test_unknown_cell_is_counted(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        parse(words)
    assert end.value.code == 2
    assert "usage: dmabed" in capsys.readouterr().err


def test_count_command_writes_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def count(artifacts: Any, plan: CountPlan, folder: Path, progress: Any) -> CountResult:
        assert plan.modes == ["page_pool"]
        return result(row("page_pool"))

    monkeypatch.setattr(command, "setup", lambda progress: None)
    monkeypatch.setattr(command, "count", count)
    assert cli.main(["count", "--rx-mode", "page_pool", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "latest" / "count.png").is_file()
    assert "Claims of 2016" in capsys.readouterr().out
