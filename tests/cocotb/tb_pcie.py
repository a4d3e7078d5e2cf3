# SPDX-License-Identifier: MIT
"""The NIC enumerated by cocotbext-pcie's root complex, behind its switch. See test_rtl.py."""

from __future__ import annotations

from typing import Any

import cocotb

from emulator.nic import registers as r
from emulator.nic.identity import DEVICE_ID, VENDOR_ID
from emulator.rtl.tlp import PAGE
from tests.cocotb.pcie_rig import PcieRig
from tests.cocotb.tb_checks import mapped

ARM = r.qp_base(0) + r.DMABED_QP_ARM


@cocotb.test()
async def enumeration_bars_or_msix_do_not_reach_the_design(dut: Any) -> None:
    rig = PcieRig(dut)
    await rig.start(ats=False)
    nic = rig.function
    assert (nic.vendor_id, nic.device_id) == (VENDOR_ID, DEVICE_ID)
    assert nic.bar_size[0] == 1 << 17
    assert await rig.device.read(r.DMABED_ID) == r.DMABED_ID_MAGIC_VALUE
    assert int(dut.cfg_requester.value) == int(nic.pcie_id)
    (page,) = mapped(rig, 1)
    await rig.device.write(ARM, 0)
    await rig.round_trip(page + 3, 1501)
    await rig.cycles(200)
    assert rig.interrupts == [1], "MSI-X through the topology"
    await rig.configure(bus_master=0)
    before = rig.link.count
    await rig.post_tx((page, 500))
    await rig.cycles(300)
    assert rig.link.count == before, "DMA without bus mastering"
    await rig.configure(bus_master=1)
    await rig.sent()
    assert rig.board.kinds and not rig.agent.requests
    rig.finish()


@cocotb.test()
async def ats_checks_fail_behind_a_switch(dut: Any) -> None:
    rig = PcieRig(dut)
    await rig.start()
    pages = mapped(rig, 3)
    for mps, mrrs in ((0, 0), (1, 2)):
        await rig.configure(mps=mps, mrrs=mrrs)
        for page in pages:
            await rig.round_trip(page + rig.rng.randrange(PAGE - 64), rig.rng.randint(60, 1514))
            await rig.unmap(page)
            rig.map(page)
    invs = [rig.agent.start_invalidate(rig.rng.choice(pages), PAGE) for _ in range(32)]
    for page in pages:
        await rig.round_trip(page, 700)
    await rig.settle()
    assert all(inv.completed for inv in invs)
    assert rig.agent.requests and len(rig.agent.history) == 38
    rig.finish()


@cocotb.test()
async def a_reset_by_configuration_space_leaves_something(dut: Any) -> None:
    rig = PcieRig(dut)
    await rig.start()
    (page,) = mapped(rig, 1)
    await rig.round_trip(page, 600)
    await rig.post_tx((page, 900))
    await rig.flr()
    assert dut.atc_empty.value == 1
    await rig.configure(bus_master=1, ats=1)
    await rig.bring_up()
    await rig.round_trip(page, 600)
    while rig.device.mac.receive_nowait():
        pass
    rig.finish()
