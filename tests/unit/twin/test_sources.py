# SPDX-License-Identifier: MIT
"""Every number of every preset names a row of docs/costs.md that is there, or is assumed."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("driver/host/costs", "emulator/iommu/model/costs", "emulator/iommu/presets")
PRESETS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.toml"))
ROWS = {
    cells[1].strip(): cells[3].strip()
    for line in (ROOT / "docs" / "costs.md").read_text(encoding="utf-8").splitlines()
    if len(cells := line.split("|")) == 7 and cells[1].strip() not in ("row", "---")
}


def numbers_of(tree):
    """(value, source) of each number, at any depth."""
    for entry in tree.values():
        if isinstance(entry, dict):
            if "source" in entry:
                yield entry.get("value", entry.get("ns")), entry["source"]
            else:
                yield from numbers_of(entry)


def test_presets_that_this_test_does_not_find():
    assert {path.parent.relative_to(ROOT).as_posix() for path in PRESETS} == set(FOLDERS)
    assert len(ROWS) > 60


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_source_that_names_no_row(preset):
    for _, source in numbers_of(tomllib.loads(preset.read_text(encoding="utf-8"))):
        kind, _, row = source.partition(": ")
        assert kind in ("costs.md", "assumption", "counted"), source
        assert kind != "counted" or preset.name.startswith("counted-"), source
        assert kind != "costs.md" or row in ROWS, source


@pytest.mark.parametrize(
    "preset", sorted((ROOT / FOLDERS[0]).glob("*.toml")), ids=lambda path: path.stem
)
def test_number_of_the_host_that_is_not_in_its_row(preset):
    found = 0
    for value, source in numbers_of(tomllib.loads(preset.read_text(encoding="utf-8"))):
        kind, _, row = source.partition(": ")
        if kind != "costs.md":
            found += kind == "counted"  # those are tested with the count that is kept
            continue
        row_has = [float(n) for n in re.findall(r"[\d.]+", ROWS[row])]
        assert set(value if isinstance(value, list) else [value]) <= set(row_has), source
        found += 1
    assert found > 10
