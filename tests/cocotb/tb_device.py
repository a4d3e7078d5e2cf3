# SPDX-License-Identifier: MIT
"""The device beyond its TLB: cuts around 4 KiB, refused accesses, registers, reset, moderation."""

from __future__ import annotations

from typing import Any

import cocotb

from emulator.nic import registers as r
from emulator.rtl.tlp import PAGE
from tests.cocotb.rig import Rig
from tests.cocotb.tb_checks import BUFFERS, mapped

QP = r.qp_base(0)


@cocotb.test()
async def requests_cross_4_kib_or_lose_bytes_at_a_cut(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    rig.map(BUFFERS, 6)
    for mps, mrrs in ((0, 0), (1, 1), (2, 2)):
        await rig.configure(mps=mps, mrrs=mrrs)
        for offset in (0, 1, PAGE - 1, PAGE - 15, PAGE - 40, PAGE - 128, PAGE - 300, 2048):
            await rig.round_trip(BUFFERS + offset, rig.rng.choice((60, 64, 257, 700)))
    await rig.round_trip(BUFFERS + 1234, 9018)
    rig.finish()


@cocotb.test()
async def a_frame_over_several_buffers_and_pieces_is_cut_wrongly(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    rig.map(BUFFERS, 8)
    frame = rig.bytes(1500)
    await rig.post_rx((BUFFERS + 5, 333), (BUFFERS + PAGE + 4000, 600), (BUFFERS + 3 * PAGE, 2000))
    await rig.wire(frame)
    data, entries = await rig.received()
    assert data == frame
    assert [e.len for e in entries] == [333, 600, 567]
    assert [e.status >> 1 & 3 for e in entries] == [2, 0, 1], "SOP and EOP"
    pieces = [(BUFFERS + 7, 100), (BUFFERS + PAGE - 50, 301), (BUFFERS + 5 * PAGE + 1, 99)]
    for iova, length in pieces:
        rig.poke(iova, rig.bytes(length))
    await rig.post_tx(*pieces)
    entry = await rig.sent()
    assert (entry.len, entry.frame_len) == (3, 500)
    assert await rig.sent_frame() == b"".join(rig.peek(*piece) for piece in pieces)
    rig.finish()


@cocotb.test()
async def a_refused_access_is_not_reported(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    rig.map(BUFFERS, 1, writable=False)
    rig.map(BUFFERS + 2 * PAGE, 2)
    for number, iova in enumerate((BUFFERS, 0xDEAD_0000)):
        await rig.device.write(r.DMABED_EVENT, 7)
        await rig.post_rx((iova, 1000))
        await rig.wire(rig.bytes(600))
        _, entries = await rig.received()
        assert entries[0].status & 8, "the completion does not say that the frame was lost"
        assert await rig.device.read(r.DMABED_EVENT) & r.DMABED_EVENT_DMA_FAULT
        assert await rig.device.read(r.DMABED_FAULT_IOVA_LO) == iova & 0xFFFF_FFFF
        info = await rig.device.read(r.DMABED_FAULT_INFO)
        assert info & (r.DMABED_FAULT_INFO_WRITE | 0xF00) == r.DMABED_FAULT_INFO_WRITE | 0x100
        assert await rig.device.read64(QP + r.DMABED_QP_RX_ERRORS) == number + 1
    await rig.round_trip(BUFFERS + 2 * PAGE, 800)
    rig.finish()


@cocotb.test()
async def an_error_or_u_answer_to_a_translation_stops_the_client(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 4)
    rig.agent.manners.refuse = 1.0
    await rig.round_trip(pages[0], 400)
    rig.agent.manners.refuse = 0.0
    rig.agent.manners.untranslated = lambda iova: iova == pages[1]
    await rig.round_trip(pages[1], 400)
    rig.agent.manners.large = 1.0
    rig.map_block(0x4000_0000, 1 << 21)
    await rig.round_trip(0x4000_0000 + 5 * PAGE + 7, 900)
    rig.finish()


@cocotb.test()
async def a_ring_that_was_stopped_still_does_dma(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 3)
    rig.host.reads.hold = lambda tlp: 150
    await rig.post_tx((pages[0], 1500))
    await rig.post_rx((pages[1], 1500))
    await rig.wire(rig.bytes(1200))
    await rig.cycles(60)
    for side in ("RX", "TX"):
        await rig.device.write(QP + getattr(r, f"DMABED_QP_{side}_CTRL"), 0)
    for _ in range(200):
        running = await rig.device.read(QP + r.DMABED_QP_RX_CTRL) | await rig.device.read(
            QP + r.DMABED_QP_TX_CTRL
        )
        if not running:
            break
    assert not running, "a stopped ring keeps running"
    before = rig.link.count
    await rig.post_tx((pages[0], 100))
    await rig.cycles(600)
    assert rig.link.count == before, "DMA of a ring that does not run"
    rig.finish()


@cocotb.test()
async def reset_leaves_a_register_or_lets_dma_go_on(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 2)
    await rig.round_trip(pages[0], 500)
    await rig.device.write(r.DMABED_MAC_LO, 0x0403_0202)
    await rig.post_tx((pages[1], 1500))
    await rig.device.write(r.DMABED_CTRL, r.DMABED_CTRL_RESET)
    for _ in range(200):
        if await rig.device.read(r.DMABED_STATUS) & r.DMABED_STATUS_READY:
            break
    before = rig.link.count
    await rig.cycles(300)
    assert rig.link.count == before, "DMA after reset"
    assert await rig.device.read(r.DMABED_CTRL) == 0
    assert await rig.device.read(r.DMABED_MAX_FRAME) == 1518
    assert await rig.device.read(r.DMABED_MAC_LO) == 0x0403_0202, "CTRL.reset keeps the address"
    assert await rig.device.read64(QP + r.DMABED_QP_RX_PACKETS) == 0
    await rig.bring_up()
    await rig.round_trip(pages[1], 500)
    while rig.device.mac.receive_nowait():
        pass
    rig.finish()


@cocotb.test()
async def an_interrupt_is_lost_or_comes_before_its_completion(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    (page,) = mapped(rig, 1)
    seen: list[int] = []
    rig.host.interrupt = lambda _, data: seen.append(data)
    arm = QP + r.DMABED_QP_ARM
    await rig.device.write(arm, 0)
    await rig.round_trip(page, 100)
    await rig.cycles(50)
    assert seen == [1]
    await rig.device.write(arm, 0)
    await rig.cycles(50)
    assert seen == [1, 1], "ARM with old counts interrupts at once"
    await rig.device.write(QP + r.DMABED_QP_MODERATION, 2 << 16 | 0xFFFF)
    await rig.device.write(arm, 1 | 1 << 16)
    await rig.post_rx((page, 200))
    await rig.wire(rig.bytes(100))
    await rig.received()
    await rig.cycles(50)
    assert seen == [1, 1], "one completion, and two were asked for"
    await rig.post_rx((page, 200))
    await rig.wire(rig.bytes(100))
    await rig.received()
    await rig.cycles(50)
    assert seen == [1, 1, 1]
    rig.finish()
