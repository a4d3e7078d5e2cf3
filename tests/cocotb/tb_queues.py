# SPDX-License-Identifier: MIT
"""Two queue pairs: each with its rings, its vector and its share of the cache. See test_rtl.py."""

from __future__ import annotations

from typing import Any

import cocotb

from emulator.nic import registers as r
from emulator.rtl.agent import ITAGS
from emulator.rtl.tlp import PAGE
from tests.cocotb.pair import Pair
from tests.cocotb.rig import Rig
from tests.cocotb.tb_checks import mapped, storm
from tests.cocotb.tb_driver import drive
from tests.cocotb.tb_stress import block_and_flood

QUEUES = 2


async def two_pairs(dut: Any) -> tuple[Rig, list[int]]:
    """Both in service, and six pages."""
    rig = Rig(dut, queues=QUEUES)
    await rig.start()
    assert await rig.device.read(r.DMABED_CAPS) & r.DMABED_CAPS_QUEUES == QUEUES
    return rig, mapped(rig, 6)


async def traffic(rig: Rig, pair: Pair, pages: list[int], rounds: int) -> None:
    """Frames in and out of one queue pair."""
    for _ in range(rounds):
        iova = rig.rng.choice(pages) + rig.rng.randrange(PAGE - 64)
        await pair.round_trip(iova, rig.rng.randint(60, 1514))


@cocotb.test()
async def a_rule_of_ats_is_broken_while_two_queue_pairs_are_busy(dut: Any) -> None:
    rig, pages = await two_pairs(dut)
    rig.board.storm = True
    running = [True]
    rings = [iova for pair in rig.pairs for iova in pair.rings]
    task = cocotb.start_soon(storm(rig, [*pages, *rings], (2, 20), running))
    # Pages are shared on purpose: an entry of the cache that one filled the other one uses.
    jobs = [
        cocotb.start_soon(traffic(rig, pair, pages[2 * n :][:4], 3))
        for n, pair in enumerate(rig.pairs)
    ]
    for job in jobs:
        await job
    running[0] = False
    await task
    await rig.settle()
    assert len(rig.agent.history) > ITAGS
    await block_and_flood(rig, pages[0])
    rig.finish()


@cocotb.test()
async def a_queue_pair_interrupts_on_the_vector_of_the_other(dut: Any) -> None:
    rig, pages = await two_pairs(dut)
    for pair in reversed(rig.pairs):
        await pair.write("ARM", 0)
        await pair.round_trip(pages[pair.queue], 300)
        await rig.cycles(60)
    assert rig.interrupts == [2, 1]
    rig.finish()


@cocotb.test()
async def stopping_one_queue_pair_stops_the_other(dut: Any) -> None:
    rig, pages = await two_pairs(dut)
    first, second = rig.pairs
    await second.post_tx((pages[0], 1500))
    for side in ("RX", "TX"):
        await second.write(f"{side}_CTRL", 0)
    await first.round_trip(pages[1], 900)
    control = second.base + r.DMABED_QP_TX_CTRL
    for _ in range(200):
        if not await rig.device.read(control):
            break
    else:
        raise AssertionError("the ring of a stopped queue pair keeps running")
    await first.round_trip(pages[1], 900)
    assert await rig.device.read64(first.base + r.DMABED_QP_RX_PACKETS) == 2
    assert await rig.device.read64(second.base + r.DMABED_QP_RX_PACKETS) == 0
    rig.finish()


@cocotb.test()
async def the_python_driver_with_two_queue_pairs_loses_or_leaks_on_the_rtl(dut: Any) -> None:
    await drive(dut, "page_pool", QUEUES, 20)
