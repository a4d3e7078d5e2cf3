# SPDX-License-Identifier: MIT
"""Runs inside the simulator: a :class:`~testbed.laboratory.Laboratory` whose NIC is RTL.

Told by the environment where its socket and its control channel are; ends when told to.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import cocotb
from cocotb.task import bridge

from emulator.ledger import Policy
from emulator.nic.config import NicConfig
from emulator.nic.wire.base import Wire
from emulator.rtl.dut import Dut
from emulator.rtl.link import Handle
from emulator.rtl.nic_device import RtlNicDevice
from emulator.warm import ready_loops, warm_up
from testbed.benches import NicSpec
from testbed.cosim.state import described
from testbed.device_process import die_with_parent, take_calls
from testbed.laboratory import Laboratory


class RtlLaboratory(Laboratory):
    """The laboratory, and what the simulation cost."""

    def watch(self, loops: Callable[[], int]) -> None:
        """Counts from here the loops that are loaded while the guest waits for a reply.

        loops: see :func:`~emulator.warm.ready_loops`.
        """
        self._loops, self._ready = loops, loops()

    def figures(self) -> dict[str, Any]:
        """Counts and seconds since the start; ``cycles`` are simulated."""
        device = self._named("nic").device
        ats = device.ats
        counts = {
            "translations": ats.agent.requests,
            "hits": ats.hits,
            "invalidates": len(ats.cycles),
            "invalidate_cycles": sum(ats.cycles),
            "stale": ats.stale,
            "late": self._loops() - self._ready,
        }
        return {**vars(device.figures), "refused": device.refused, **counts}

    def state(self) -> str:
        """What the device's side is doing, for a guest that waits in vain."""
        return "\n".join(described(self._named("nic")))


@cocotb.test()
async def serve(dut: Handle) -> None:
    """Serves the design until the control channel says to stop."""
    die_with_parent()
    design = Dut(dut)
    await design.start()

    def make(config: NicConfig, wire: Wire) -> RtlNicDevice:
        device = RtlNicDevice(config, wire, design)
        device.seed = int(os.environ["COSIM_SEED"])
        return device

    @bridge
    def run() -> None:
        # QEMU waits for each reply: nothing may be compiled or collected inside one.
        warm_up()
        pipe: Any = Client(os.environ["COSIM_CONTROL"], family="AF_UNIX")
        config = NicConfig(mac=bytes.fromhex(os.environ["COSIM_MAC"]), queues=1)
        spec = NicSpec("nic", Path(os.environ["COSIM_SOCKET"]), config)
        policy = Policy(lazy=os.environ["COSIM_LAZY"] == "1")
        with contextlib.closing(RtlLaboratory([spec], policy, make)) as laboratory:
            laboratory.watch(ready_loops())
            gc.freeze()
            pipe.send(("ok", None))
            laboratory.loop.control(lambda: take_calls(laboratory, pipe), pipe.fileno())
            laboratory.loop.run()

    await run()
