# SPDX-License-Identifier: MIT
"""Runs inside the simulator: a design of one's own as a PCI device on a socket.

Told by the environment which class and where; ends when the guest that came is gone, and leaves
the ledger's verdict in ``verdict.txt``.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import cocotb
from cocotb.task import bridge

from emulator.endpoint import Endpoint
from emulator.iommu.latency import LatencyModel
from emulator.ledger import Ledger
from emulator.loop import DeviceLoop
from emulator.rtl.dut import AxiDesign
from emulator.rtl.link import Handle
from emulator.seat import DeviceSeat
from emulator.warm import warm_up
from testbed.cosim.serve import load_design
from testbed.device_process import die_with_parent


class OneGuest(DeviceSeat):
    """A seat that ends the loop when its client is gone."""

    loop: DeviceLoop
    came = False

    def service(self, now_ns: int) -> bool:
        """As the base class."""
        did = super().service(now_ns)
        here = self.server.connection is not None
        if self.came and not here:
            self.loop.stop()
        self.came |= here
        return did


@cocotb.test()
async def serve(dut: Handle) -> None:
    """Serves the design to one guest."""
    die_with_parent()
    design = AxiDesign(dut)
    await design.start()

    @bridge
    def run() -> None:
        warm_up()
        ledger = Ledger(time.monotonic_ns)
        device = load_design(os.environ["COSIM_DEVICE"])(design)
        endpoint = Endpoint(device, dut._name, ledger, LatencyModel())
        seat = OneGuest(endpoint, Path(os.environ["COSIM_SOCKET"]))
        seat.loop = DeviceLoop([seat])
        with contextlib.closing(seat):
            seat.loop.run()
        verdict = ledger.verdict()
        refused = f"{dut._name}: {device.refused} requests were refused"
        Path("verdict.txt").write_text("\n".join([*verdict.summary, refused]))
        assert verdict.ok and not endpoint.device_errors, verdict.summary

    await run()
