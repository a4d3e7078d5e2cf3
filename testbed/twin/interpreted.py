# SPDX-License-Identifier: MIT
"""The twin without machine code: its kernels run as the Python they are written in.

Some hundred times slower, and nothing has to be compiled first: right for runs of thousands of
packets, for a debugger, and as what the compiled twin must agree with to the bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from testbed.twin.result import TwinResult
from testbed.twin.run import COMPILED, Engine, run_world
from testbed.twin.scenario import TwinScenario
from testbed.twin.world import World, build

INTERPRETED = Engine(*(cast("Any", function).py_func for function in COMPILED))


def build_interpreted(scenario: TwinScenario) -> World:
    """A world at time 0 whose records are its named tuples. Raises as :func:`build`."""
    return interpreted(build(scenario))


def interpreted(world: World) -> World:
    """The same world, arrays and clocks shared, for the functions of :data:`INTERPRETED`."""
    return replace(
        world,
        host_record=world.host,
        pool_records=[pool.state for pool in world.pools],
        queue_records=list(world.queues),
    )


def run_interpreted(scenario: TwinScenario) -> TwinResult:
    """As :func:`testbed.twin.run.run_twin`."""
    return run_world(build_interpreted(scenario), engine=INTERPRETED)
