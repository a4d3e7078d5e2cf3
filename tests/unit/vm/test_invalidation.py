# SPDX-License-Identifier: MIT
"""A guest that is stricter, or lazier, than it was asked to be is refused."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from vm.errors import VmError
from vm.invalidation import settle_invalidation
from vm.machine import ALL_IOMMUS, Iommu


class OfGroups:
    """Stands for a guest: three groups, and whether their types can be changed."""

    def __init__(self, iommu: Iommu, kind: str, fixed: bool = False) -> None:
        self.config = SimpleNamespace(iommu=iommu)
        self.kind, self.fixed = kind, fixed
        self.asked = 0

    async def run(self, command: str, **_: Any) -> SimpleNamespace:
        self.asked += 1
        if "echo DMA-FQ" in command and not self.fixed:
            self.kind = "DMA-FQ"
        return SimpleNamespace(stdout=f"{self.kind}\n" * 3, stderr="")


def settled(guest: OfGroups) -> OfGroups:
    asyncio.run(settle_invalidation(guest))  # type: ignore[arg-type]
    return guest


@pytest.mark.parametrize("iommu", ["intel-lazy", "amd-lazy"])
def test_iommu_that_linux_makes_strict_is_not_made_lazy_again(iommu: Iommu) -> None:
    assert settled(OfGroups(iommu, "DMA")).kind == "DMA-FQ"
    with pytest.raises(VmError, match=f"{iommu}: .* type DMA, DMA, DMA, not all DMA-FQ"):
        settled(OfGroups(iommu, "DMA", fixed=True))


@pytest.mark.parametrize("iommu", [name for name in ALL_IOMMUS if name.endswith("strict")])
def test_strict_iommu_is_made_lazy_or_taken_for_strict_when_it_is_not(iommu: Iommu) -> None:
    assert settled(OfGroups(iommu, "DMA")).kind == "DMA"
    for kind in ("DMA-FQ", "identity", ""):
        with pytest.raises(VmError, match=iommu):
            settled(OfGroups(iommu, kind))


def test_guest_without_an_iommu_is_asked_for_its_groups() -> None:
    assert settled(OfGroups("none", "")).asked == 0
