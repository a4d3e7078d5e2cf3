# SPDX-License-Identifier: MIT
"""K8 to K12: sending blocked, functions off, resets, storms, failed reads. See test_rtl.py."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.pcie.core.tlp import CplStatus

from emulator.nic import registers as r
from emulator.rtl.agent import ITAGS
from emulator.rtl.tlp import PAGE, AtsTlp
from tests.cocotb.rig import Rig
from tests.cocotb.tb_checks import mapped, under_storm


async def block_and_flood(rig: Rig, page: int) -> None:
    """32 invalidates back to back while the device cannot send anything."""
    blocked = [True]
    rig.link.ready = lambda: not blocked[0]
    invs = [rig.agent.start_invalidate(page + n % 4 * PAGE, PAGE, tc=n % 8) for n in range(ITAGS)]
    await rig.cycles(200)
    taken = sum(inv.delivered is not None for inv in invs)
    assert taken == ITAGS, f"K8: the blocked device took {taken} of {ITAGS} invalidates"
    assert not any(inv.completed for inv in invs)
    blocked[0] = False
    await rig.settle()
    assert all(inv.completed for inv in invs), "K8: not all were completed after the block"


@cocotb.test()
async def k8_invalidates_are_refused_while_sending_is_blocked_or_answered_wrongly(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 4)
    await block_and_flood(rig, pages[0])
    for page in pages:
        await rig.round_trip(page, 300)
    await rig.post_rx((pages[0], 1500), (pages[1], 1500))
    await rig.wire(rig.bytes(1400))
    await rig.wire(rig.bytes(1400))
    await rig.cycles(100)
    await block_and_flood(rig, pages[0])
    await rig.received()
    await rig.received()
    rig.finish()


@cocotb.test()
async def k9_an_invalidate_is_not_completed_while_bus_mastering_or_ats_is_off(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 3)
    await rig.round_trip(pages[0], 1000)
    for wires in ({"bus_master": 0}, {"ats": 0}, {"bus_master": 0, "ats": 0}):
        await rig.post_tx((pages[1], 1200))
        for _ in range(4):
            rig.agent.start_invalidate(rig.rng.choice(pages), PAGE)
        await rig.configure(**wires)
        invs = [rig.agent.start_invalidate(page, PAGE) for page in pages]
        await rig.settle(2000)
        assert all(inv.completed for inv in invs), f"K9: no completion with {wires}"
        await rig.configure(bus_master=1, ats=1)
        await rig.sent()
        await rig.sent_frame()
    await rig.round_trip(pages[2], 700)
    rig.finish()


@cocotb.test()
async def k10_something_survives_a_function_level_reset(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 4)
    for page in pages:
        await rig.round_trip(page, 400)
    rig.host.reads.hold = lambda tlp: 900
    for page in pages:
        await rig.post_tx((page, 900))
    while len(rig.board.reads) < 3:
        await rig.cycles(2)
    in_use = [iova & -PAGE for _, _, iova in rig.board.reads.values()]
    for number in range(8):
        rig.agent.start_invalidate(in_use[number % len(in_use)], PAGE)
    await rig.cycles(40)
    assert len(rig.agent.pending) == 8, "the reset would find no invalidate pending"
    await rig.flr()
    assert dut.atc_empty.value == 1, "K10: the cache is not empty after the reset"
    assert int(dut.inv_pending.value) == 0
    late = count_unexpected(rig)
    rig.host.reads.hold = lambda tlp: 0
    await rig.cycles(100)
    await rig.configure(bus_master=1, ats=1, msix_enable=1)
    await rig.bring_up()
    for page in pages:
        await rig.round_trip(page, 500)
    await rig.cycles(1000)
    assert late[0], "K10: no late completion came; the test does not test"
    while rig.device.mac.receive_nowait():
        pass
    rig.finish()


def count_unexpected(rig: Rig) -> list[int]:
    """Counts completions the device drops because nobody waits for them."""
    count = [0]

    async def watch() -> None:
        edge = RisingEdge(rig.dut.clk)
        while True:
            await edge
            if rig.dut.unexpected.value == 1:
                count[0] += 1

    cocotb.start_soon(watch())
    return count


@cocotb.test()
async def k11_a_storm_of_invalidates_starves_traffic_or_itself(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    rig.board.storm = True
    pages = mapped(rig, 4)
    await under_storm(rig, pages, 5, (1, 3))
    times = sorted(
        inv.completed_cycle - inv.issued_cycle for inv in rig.agent.history if inv.completed_cycle
    )
    print(f"{len(times)} invalidates; issue to completion, cycles: {histogram(times)}")
    assert len(times) > 200
    rig.finish()


def histogram(values: list[int]) -> str:
    """Counts by powers of two."""
    bins: dict[int, int] = {}
    for value in values:
        bins[1 << value.bit_length()] = bins.get(1 << value.bit_length(), 0) + 1
    return ", ".join(f"<{limit}: {count}" for limit, count in sorted(bins.items()))


def reads_page(rig: Rig, tlp: AtsTlp, page: int) -> bool:
    """Whether a request is for ``page``."""
    return rig.host.iova_of(tlp) & -PAGE == page


@cocotb.test()
async def k12_a_failed_read_holds_up_an_invalidate(dut: Any) -> None:
    rig = Rig(dut)
    rig.board.timeout = int(dut.TIMEOUT.value)
    await rig.start()
    (page,) = mapped(rig, 1)
    await rig.round_trip(page, 500)
    for outcome in (CplStatus.UR, CplStatus.CA, "poison", None):
        rig.board.failed_reads += 1
        if outcome is None:
            rig.host.reads.hold = lambda tlp: None if reads_page(rig, tlp, page) else 0
        else:
            rig.host.reads.hold = lambda tlp: 200
            rig.host.reads.fail = lambda tlp, o=outcome: (
                o if reads_page(rig, tlp, page) else CplStatus.SC
            )
        await rig.post_tx((page, 400))
        await rig.cycles(100)
        inv = rig.agent.start_invalidate(page, PAGE)
        entry = await rig.sent()
        assert entry.status & 8, f"a frame whose read ended with {outcome} was reported as sent"
        await rig.settle()
        assert inv.completed, f"K12: no completion after {outcome}"
        rig.host.reads.hold, rig.host.reads.fail = (lambda tlp: 0), (lambda tlp: CplStatus.SC)
    await rig.round_trip(page, 500)
    assert await rig.device.read64(r.qp_base(0) + r.DMABED_QP_TX_ERRORS) == 4
    assert await rig.device.read(r.DMABED_FAULT_INFO) >> 16 == 4
    rig.finish()
