# SPDX-License-Identifier: MIT
"""What the twin says a cell costs by the prices of a count: against the count, a check of both.

The prices come from a few cells (:mod:`testbed.count.reprice`); the others are predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

from driver.host.costs import load_host_costs
from testbed.count.reprice import STRICT
from testbed.count.results import Fate, Mode
from testbed.count.session import BURST, WARM_UP
from testbed.count.twin import twin_scenario
from testbed.predict import PRESET
from testbed.scenario import Iommu
from testbed.twin.thread.experiment import steady


@dataclass(frozen=True, slots=True)
class Priced:
    """Cycles per packet: of what code executes, and of waiting for the IOMMU."""

    executing: float
    waiting: float


def priced(name: str, mode: Mode, iommu: Iommu, fate: Fate) -> Priced:
    """The cell by the presets ``name`` and ``name-strict``; iommu: none or intel-strict.

    Raises:
        ValueError: there are no such presets.
    """
    preset = PRESET[iommu] if iommu == "none" else name + STRICT
    cell = twin_scenario(mode, preset, fate)
    run = steady(
        mode,
        preset,
        2 * BURST,
        WARM_UP * BURST,
        host=name,
        consumer__kind=cell.consumer.kind,
        memory__mib=cell.memory.mib,
        traffic__first_poll=cell.traffic.first_poll,
        driver__ring=cell.driver.ring,
        driver__pool_size=cell.driver.pool_size,
        driver__headroom=cell.driver.headroom,
        driver__buffer_bytes=cell.driver.buffer_bytes,
    )
    waiting = run.cycles["invalidation"]
    # The consumer of pages that come back in the poll has no stack; in the guest it has.
    stack = load_host_costs(name).cycles["stack.socket"] if cell.consumer.kind == "drop" else 0.0
    return Priced(run.total - waiting + stack, waiting)
