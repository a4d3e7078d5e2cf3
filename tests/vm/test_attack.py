# SPDX-License-Identifier: MIT
"""The NIC writes to memory the guest has given away: it arrives under lazy, not under strict."""

import asyncio
from pathlib import Path

import pytest

from testbed.attack.run import run_attack
from vm.artifacts import setup
from vm.kernel_config import flavour_for
from vm.machine import Iommu

pytestmark = pytest.mark.vm


@pytest.mark.parametrize(
    "iommu", ["virtio-lazy", "intel-strict", "intel-lazy", "amd-lazy", "amd-strict"]
)
def test_canary_arrives_at_the_victim_exactly_where_invalidation_is_lazy(
    tmp_path: Path, iommu: Iommu
):
    artifacts = setup(print, flavour=flavour_for([iommu]))
    outcome = asyncio.run(run_attack(artifacts, tmp_path, iommu))
    attack = outcome.attack
    assert attack.targets >= 128
    if iommu.endswith("lazy"):
        assert outcome.live_at_release > 0
        assert 0 < attack.hit <= outcome.live_at_release
        assert outcome.arrived > 0 and "the canary written to IOVA" in outcome.first
        assert sum(count for _, count in outcome.histogram) == attack.hit
    else:
        assert (attack.hit, attack.writes, outcome.arrived) == (0, 0, 0)
        assert outcome.live_at_release == 0
