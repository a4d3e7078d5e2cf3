# SPDX-License-Identifier: MIT
"""Bugs planted in the kernel module: each is caught by its rule, a sound module is not blamed."""

import asyncio
from pathlib import Path

import pytest

from testbed.plants.catalogue import BUGS, Catch
from testbed.plants.guest import run_plants
from vm.artifacts import Artifacts

pytestmark = pytest.mark.vm


def test_planted_bug_is_not_caught_or_a_sound_driver_is_blamed(
    artifacts: Artifacts, tmp_path: Path
):
    seen: list[Catch] = []
    blamed, catches = asyncio.run(run_plants(artifacts, tmp_path, told=seen.append))
    assert blamed is None
    assert {catch.plant.number for catch in catches} == {bug.number for bug in BUGS}
    assert {catch.plant.name: catch.spoke for catch in catches if not catch.caught} == {}
    # Found twice: by what the guest's sink traced, and by what it found in the frames it kept.
    assert {"O-5", "O-6"} <= set(next(c.spoke for c in catches if c.plant.number == 6))
    assert all(catch.latency_ns is not None for catch in catches)
    assert seen == catches
