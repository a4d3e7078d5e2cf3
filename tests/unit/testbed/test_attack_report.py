# SPDX-License-Identifier: MIT
"""The attack's report says where memory was written, and says so when it was not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.attack.attacker import Attack
from testbed.attack.report import (
    Conditions,
    findings_of,
    headline_of,
    windows_title,
    write_attack,
)
from testbed.attack.run import Outcome
from tests.unit.testbed.test_html import Checker

NOW = Conditions("2025-11-23T04:41:07+00:00", "dmabed attack", "11.1.3", ("6.12.9",), "TCG", 1000)
LAZY = Outcome(
    "amd-lazy", "page_pool", 1, Attack(128, 3, 40, (2_000_000, 9_000_000, 31_000_000), True), 2,
    "page 7 of the victim, byte 2048: the canary", 132, 450,
)  # fmt: skip
STRICT = Outcome("amd-strict", "page_pool", 4, Attack(128, 0, 0, (), True), 0, "", 0, 510)


def test_headline_names_what_was_written_and_for_how_long() -> None:
    assert headline_of([LAZY, STRICT]).text == (
        "Under amd-lazy a device writes to memory that is somebody else's, for up to 31.0 ms; "
        "under amd-strict never."
    )
    assert headline_of([STRICT]).level == "good"


def test_write_under_a_strict_iommu_is_called_good() -> None:
    broken = replace(STRICT, attack=LAZY.attack)
    assert broken.broken and not LAZY.broken and not STRICT.broken
    assert headline_of([LAZY, broken]).level == "bad"
    assert "amd-strict, which is strict" in headline_of([LAZY, broken]).text
    assert {finding.level for finding in findings_of([broken])} == {"bad"}


def test_words_of_the_demonstration_are_lost() -> None:
    said = [finding.text for finding in findings_of([LAZY, STRICT])]
    assert "3 could still be written, 40 times in all" in said[0] and "31.0 ms" in said[0]
    assert "found in 2 pages" in said[1] and said[1].endswith("byte 2048: the canary.")
    assert "not one took a write" in said[2] and len(said) == 3


@pytest.mark.parametrize("outcomes", [[LAZY, STRICT], [STRICT], [LAZY]])
def test_page_needs_the_network_or_does_not_nest(tmp_path: Path, outcomes: list[Outcome]) -> None:
    page = write_attack(outcomes, NOW, tmp_path)
    checker = Checker(page.read_text())
    assert checker.problems == []
    links = [a.get("href") or a.get("src") for _, a in checker.tags if "href" in a or "src" in a]
    outside = [link for link in links if link and not link.startswith(("#", "data:"))]
    assert set(outside) == {"windows.svg", "windows.png", "attack.json"}
    assert all((tmp_path / name).stat().st_size for name in outside)
    tree = json.loads((tmp_path / "attack.json").read_text())
    assert [one["iommu"] for one in tree["attacks"]] == [one.iommu for one in outcomes]


def test_title_claims_a_window_where_there_was_none() -> None:
    assert windows_title([STRICT]).startswith("No page takes a write")
    assert windows_title([STRICT, LAZY]).endswith(
        "behind a lazy IOMMU, still take a device's writes for up to 31.0 ms"
    )
