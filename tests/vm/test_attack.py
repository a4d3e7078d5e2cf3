# SPDX-License-Identifier: MIT
"""The NIC writes to memory the guest has given away: it arrives under lazy, not under strict."""

import asyncio
from pathlib import Path

import pytest

from testbed.attack.run import run_attack
from vm.artifacts import Artifacts
from vm.machine import Iommu

pytestmark = pytest.mark.vm


@pytest.mark.parametrize("iommu", ["virtio-lazy", "intel-strict"])
def test_canary_arrives_at_the_victim_exactly_where_invalidation_is_lazy(
    artifacts: Artifacts, tmp_path: Path, iommu: Iommu
):
    outcome = asyncio.run(run_attack(artifacts, tmp_path, iommu))
    attack = outcome.attack
    assert attack.targets >= 128
    if iommu == "virtio-lazy":
        assert outcome.live_at_release > 0
        assert 0 < attack.hit <= outcome.live_at_release
        assert outcome.arrived > 0 and "the canary written to IOVA" in outcome.first
        assert sum(count for _, count in outcome.histogram) == attack.hit
    else:
        assert (attack.hit, attack.writes, outcome.arrived) == (0, 0, 0)
        assert outcome.live_at_release == 0
