# SPDX-License-Identifier: MIT
"""K1 to K7 and K13 to K15, each provoked on purpose. Runs in the simulator; see test_rtl.py."""

from __future__ import annotations

from typing import Any

import cocotb

from emulator.rtl.agent import EVERYTHING, ITAGS
from emulator.rtl.tlp import PAGE, AtsTlp, Kind
from tests.cocotb.pair import RX_RING
from tests.cocotb.rig import Rig

BUFFERS = 0x7A5B_3C2D_1000
"""No two bytes of it alike."""


async def storm(rig: Rig, pages: list[int], gap: tuple[int, int], running: list[bool]) -> None:
    """Invalidates pages that stay mapped: the device must ask again, and no data is ever wrong."""
    while running[0]:
        if len(rig.agent.pending) < ITAGS:
            rig.agent.start_invalidate(rig.rng.choice(pages), PAGE)
        await rig.cycles(rig.rng.randint(*gap))


async def under_storm(rig: Rig, pages: list[int], rounds: int, gap: tuple[int, int]) -> None:
    """Traffic on ``pages`` while they and the receive ring are invalidated all the time."""
    running = [True]
    task = cocotb.start_soon(storm(rig, [*pages, RX_RING], gap, running))
    for _ in range(rounds):
        iova = rig.rng.choice(pages) + rig.rng.randrange(PAGE - 64)
        await rig.round_trip(iova, rig.rng.randint(60, 1514))
    running[0] = False
    await task
    await rig.settle()


def mapped(rig: Rig, count: int, first: int = BUFFERS) -> list[int]:
    """``count`` pages in a row, and one more so that frames may run over."""
    rig.map(first, count + 1)
    return [first + n * PAGE for n in range(count)]


@cocotb.test()
async def k1_a_translation_is_used_after_its_invalidate_was_completed(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 3)
    await under_storm(rig, pages, 6, (5, 60))
    for page in pages:
        await rig.round_trip(page + 77, 900)
        await rig.unmap(page)
        rig.map(page)
        await rig.round_trip(page + 77, 900)
    rig.finish()


@cocotb.test()
async def k2_an_invalidate_is_completed_while_a_stale_read_is_unanswered(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 2)
    await rig.round_trip(pages[0], 500)
    rig.host.reads.hold = lambda tlp: rig.rng.choice((0, 400, 900))
    rig.link.listeners.append(
        lambda tlp: (
            rig.link.after(3, lambda: invalidate_page_of(rig, tlp))
            if tlp.kind is Kind.READ
            else None
        )
    )
    for _ in range(4):
        await rig.round_trip(pages[0] + 100, 1500)
    await rig.settle()
    rig.finish()


def invalidate_page_of(rig: Rig, tlp: AtsTlp) -> None:
    """Aims at the page a request has just used."""
    if len(rig.agent.pending) < ITAGS:
        rig.agent.start_invalidate(rig.host.iova_of(tlp) & -PAGE, PAGE)


@cocotb.test()
async def k3_a_stale_write_follows_the_completion_or_is_not_pushed(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    (page,) = mapped(rig, 1)
    await rig.round_trip(page, 1000)
    for burst in range(3):
        await rig.post_rx((page, 1500))
        await rig.cycles(200)
        open_at = rig.link.cycle + 400
        rig.link.ready = lambda open_at=open_at: rig.link.cycle > open_at
        await rig.wire(rig.bytes(1000 + burst))
        await rig.cycles(120)
        rig.agent.start_invalidate(page, PAGE)
        await rig.received()
        await rig.settle()
    rig.finish()


@cocotb.test()
async def k4_a_translation_that_an_invalidate_overtook_is_installed(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 3)
    rig.agent.manners.look, rig.agent.manners.answer = (1, 3), (150, 200)
    aim_at_translations(rig, lambda tlp: tlp.addr)
    for page in pages:
        await rig.round_trip(page, 200)
    await rig.settle()
    rig.finish()


def aim_at_translations(rig: Rig, where: Any, times: int = 2) -> None:
    """Invalidates ``where(request)`` between look-up and answer, ``times`` per page."""
    aimed: dict[int, int] = {}

    def sent(tlp: AtsTlp) -> None:
        page = where(tlp) if tlp.kind is Kind.TRANSLATION else None
        if page is not None and aimed.setdefault(page, 0) < times:
            aimed[page] += 1
            rig.link.after(20, lambda: rig.agent.start_invalidate(page, PAGE))

    rig.link.listeners.append(sent)


@cocotb.test()
async def k5_an_invalidate_of_the_second_page_of_a_request_is_missed(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    rig.agent.manners.large, rig.agent.manners.split = 0.0, 0.5
    rig.agent.manners.look, rig.agent.manners.answer = (1, 3), (150, 200)
    for pair in range(3):
        first = BUFFERS + 2 * PAGE * pair
        rig.map(first, 2)
        aim_at_translations(
            rig, lambda tlp, first=first: first + PAGE if tlp.addr == first else None
        )
        await rig.round_trip(first, 200)
        await rig.settle()
        await rig.round_trip(first + PAGE, 200)
    await rig.settle()
    rig.finish()


@cocotb.test()
async def k6_a_range_is_decoded_too_small(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    rig.agent.manners.large = 0.0
    for bits in (13, 14, 16, 21, 30, 64):
        size = 1 << bits
        base = 0 if bits == 64 else (0x5A << 40) & -size
        ends = (0x5A00_0123_4000, 0x7FFF_FFFF_E000) if bits == 64 else (base, base + size - PAGE)
        for page in ends:
            rig.map(page)
        for page in ends:
            await rig.round_trip(page, 100)
        await rig.agent.invalidate(base, min(size, EVERYTHING))
        for page in ends:
            await rig.round_trip(page, 100)
            rig.space.unmap(page, PAGE, 0)
        await rig.agent.invalidate(base, min(size, EVERYTHING))
    rig.finish()


@cocotb.test()
async def k7_the_payload_of_an_invalidate_is_read_in_the_wrong_byte_order(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    rig.agent.manners.large = 0.0
    for page in (BUFFERS, 0x0000_0001_0000_0000, 0x00FE_DCBA_9876_5000):
        rig.map(page)
        await rig.round_trip(page, 100)
        body = bytes(page >> shift & 0xFF for shift in range(56, -8, -8))
        inv = rig.agent.start_invalidate(page, PAGE, body=body)
        await inv.done.wait()
        await rig.round_trip(page, 100)
    rig.finish()


@cocotb.test()
async def k13_a_translation_of_a_pasid_outlives_its_invalidate(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start(pasid_valid=1, pasid=5)
    pages = mapped(rig, 2)
    cases: list[dict[str, Any]] = [
        {"iova": pages[0], "pasid": 5},
        {"iova": pages[0], "pasid": 9, "all_pasids": True},
        {"iova": 0x1234_5000},
        {"iova": pages[1]},
        {"iova": pages[0], "pasid": 6},
    ]
    for case in cases:
        for page in pages:
            await rig.round_trip(page, 300)
        iova = case.pop("iova")
        await rig.agent.invalidate(iova, PAGE, **case)
        for page in pages:
            await rig.round_trip(page, 300)
    rig.finish()


@cocotb.test()
async def k14_data_is_wrong_once_the_working_set_outgrows_the_cache(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    pages = mapped(rig, 40)
    for _ in range(12):
        page = rig.rng.choice(pages)
        await rig.round_trip(page + rig.rng.randrange(PAGE), rig.rng.randint(20, 1514))
        if rig.rng.random() < 0.4:
            await rig.unmap(page)
            rig.map(page)
    await rig.settle()
    rig.finish()


@cocotb.test()
async def k14_entries_of_one_set_are_all_invalidated(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start()
    rig.agent.manners.large = 0.0
    stride = PAGE * int(dut.ATC_ENTRIES.value) // int(dut.ATC_WAYS.value)
    pages = [BUFFERS + 4 * PAGE + n * stride for n in range(2)]  # a set without rings
    for page in pages:
        rig.map(page)
    for _ in range(3):
        for page in pages:
            await rig.round_trip(page, 100)
        for page in pages:
            await rig.agent.invalidate(page, PAGE)
    rig.finish()


@cocotb.test()
async def k15_a_translated_request_is_sent_while_ats_is_off(dut: Any) -> None:
    rig = Rig(dut)
    await rig.start(ats=False)
    pages = mapped(rig, 2)
    await rig.round_trip(pages[0], 1200)
    for on in (1, 0, 1):
        traffic = cocotb.start_soon(rig.round_trip(pages[on], 1500))
        await rig.cycles(rig.rng.randint(20, 150))
        await rig.configure(ats=on)
        await traffic
        await rig.round_trip(pages[1], 900)
    rig.finish()
