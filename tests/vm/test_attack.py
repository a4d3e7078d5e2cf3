# SPDX-License-Identifier: MIT
"""The NIC writes to memory the guest has given away: it arrives under lazy, not under strict."""

import asyncio
from pathlib import Path

import pytest

from testbed.attack.run import Outcome, run_attack
from vm.artifacts import setup
from vm.kernel_config import flavour_for
from vm.machine import Iommu

pytestmark = pytest.mark.vm


def attacked(folder: Path, iommu: Iommu) -> Outcome:
    artifacts = setup(print, flavour=flavour_for([iommu]))
    outcome = asyncio.run(run_attack(artifacts, folder, iommu))
    assert outcome.attack.targets >= 128
    return outcome


@pytest.mark.parametrize("iommu", ["virtio-lazy", "intel-lazy", "amd-lazy"])
@pytest.mark.usefixtures("unchecked")  # the flush queue waits for 10 ms, whatever else is slow
def test_canary_does_not_arrive_at_the_victim_although_invalidation_is_lazy(
    tmp_path: Path, iommu: Iommu
):
    outcome = attacked(tmp_path, iommu)
    assert outcome.live_at_release > 0
    assert 0 < outcome.attack.hit <= outcome.live_at_release
    assert outcome.arrived > 0 and "the canary written to IOVA" in outcome.first
    assert sum(count for _, count in outcome.histogram) == outcome.attack.hit


@pytest.mark.parametrize("iommu", ["intel-strict", "amd-strict"])
def test_canary_lands_although_invalidation_is_strict(tmp_path: Path, iommu: Iommu):
    outcome = attacked(tmp_path, iommu)
    assert (outcome.attack.hit, outcome.attack.writes, outcome.arrived) == (0, 0, 0)
    assert outcome.live_at_release == 0
