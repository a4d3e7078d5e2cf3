# SPDX-License-Identifier: MIT
"""Tests on Verilator run last: it compiles for half a minute while those on Icarus run."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the tests of this folder and leaves all others where they are."""
    here = Path(__file__).parent
    places = [n for n, item in enumerate(items) if item.path.parent == here]
    mine = sorted((items[n] for n in places), key=lambda item: "[verilator]" in item.name)
    for place, item in zip(places, mine, strict=True):
        items[place] = item
