# SPDX-License-Identifier: MIT
"""The Python driver on the RTL, judged by the ledger; and the RTL in step with the Python NIC."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.task import bridge, resume

from driver.model.host import run_to_completion
from driver.model.main import (
    DeviceStats,
    dmabed_get_stats64,
    dmabed_open,
    dmabed_probe,
    dmabed_remove,
    dmabed_run,
    dmabed_stop,
)
from driver.model.stack import Drop, LocalPages
from driver.model.structs import Config
from driver.model.tx import dmabed_start_xmit
from emulator.frames import FrameBatch
from tests.cocotb.rig import seed_of_run
from tests.cocotb.rtl_host import RtlHost

MAC = bytes.fromhex("02dbed000001")


def frames_of(rng: np.random.Generator, count: int) -> list[bytes]:
    """Test frames to the device, lengths from the shortest to the longest."""
    lengths = rng.integers(60, 1515, count)
    head = MAC + bytes.fromhex("02dbed0000ff88b5")
    return [head + rng.bytes(int(n) - len(head)) for n in lengths]


def in_order(frames: list[bytes], queues: int) -> list[bytes]:
    """As they are, or sorted if several queue pairs may have changed the order."""
    return frames if queues == 1 else sorted(frames)


async def drive(dut: Any, rx_mode: str, queues: int = 1, count: int = 40) -> None:
    """Frames both ways by the driver, then down and gone; everything compared and judged.

    What goes to one queue pair keeps its order; between queue pairs there is none.
    """
    seed = seed_of_run()
    rng = np.random.default_rng(seed)
    host = RtlHost(dut, seed, queues=queues)
    await host.start()
    incoming, outgoing = frames_of(rng, count), frames_of(rng, count)
    received: list[bytes] = []
    stack = Drop(look=received.extend)
    send = resume(host.device.mac.send)

    @bridge
    def driver() -> None:
        priv = run_to_completion(dmabed_probe(host, stack, rx_mode, Config(queues, 64, 64)))
        priv.usecs = 0  # a moderated interrupt is a long time to simulate
        run_to_completion(dmabed_open(priv))
        local = LocalPages(host.pages)
        for start in range(0, len(incoming), 10):
            for frame in incoming[start : start + 10]:
                assert send(frame)
            for queue in range(queues):
                batch = FrameBatch.of(outgoing[start + queue : start + 10 : queues])
                skbs = local.skbs(host, batch, 700)
                assert not len(run_to_completion(dmabed_start_xmit(priv, queue, skbs)))
            run_to_completion(dmabed_run(priv))
        stats = [run_to_completion(DeviceStats.read(priv, queue)) for queue in range(queues)]
        assert sum(each.rx_packets for each in stats) == len(incoming)
        assert sum(each.tx_packets for each in stats) == len(outgoing)
        assert sum(each.rx_bytes for each in stats) == sum(map(len, incoming))
        assert all(each.rx_packets and each.tx_packets for each in stats), "a queue pair was idle"
        mine = dmabed_get_stats64(priv)
        assert (mine.rx_packets, mine.tx_packets) == (len(incoming), len(outgoing))
        run_to_completion(dmabed_stop(priv))
        run_to_completion(dmabed_remove(priv))

    await driver()
    assert in_order(received, queues) == in_order(incoming, queues), "a received frame differs"
    sent = []
    while (frame := host.device.mac.receive_nowait()) is not None:
        sent.append(frame)
    assert in_order(sent, queues) == in_order(outgoing, queues), "a sent frame differs"
    findings = host.board.finish()
    assert not findings, findings[:3]
    verdict = host.ledger.verdict()
    assert verdict.ok, [str(violation) for violation in verdict.violations[:3]]
    totals = verdict.totals["rtl"]
    counts = f"{len(host.agent.history)} invalidates, {host.agent.requests} ATS requests"
    print(f"{rx_mode}: {totals.maps} maps, {totals.unmaps} unmaps, {counts}")
    assert len(host.space) == 0, "mappings were left"
    assert len(host.agent.history) > 0


@cocotb.test()
async def the_python_driver_with_page_pool_loses_or_leaks_on_the_rtl(dut: Any) -> None:
    await drive(dut, "page_pool")


@cocotb.test()
async def the_python_driver_with_map_per_packet_loses_or_leaks_on_the_rtl(dut: Any) -> None:
    await drive(dut, "map_per_packet")
