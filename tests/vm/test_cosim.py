# SPDX-License-Identifier: MIT
"""The Linux guest on the RTL, one boot: the NIC, a second design, and what is said of a stall."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.rtl.simulators import ROOT, MissingSimulatorError, find
from testbed.cosim.__main__ import MESSAGE_TIMEOUT_MS, Result, cosimulate
from testbed.cosim.state import stalled
from testbed.rig import Rig, RigError
from vm.machine import VfioUserDevice

pytestmark = [pytest.mark.vm, pytest.mark.slow]

STAMP = "examples.rtl.stamp_device:StampDevice"
BUILD_S = 120


@dataclass
class Seen:
    """What one boot showed: of the NIC, of the stamp in the guest and in its ledger, of a stall."""

    result: Result
    stamps: str
    verdict: str
    stall: str


@pytest.fixture(scope="module")
def stamp_socket(tmp_path_factory) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """The stamp, simulated by Icarus, for the guest to come."""
    socket = tmp_path_factory.mktemp("stamp") / "stamp.sock"
    command = [sys.executable, "-m", "testbed.cosim.serve", STAMP, str(socket), "icarus"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        deadline = time.monotonic() + BUILD_S
        while not socket.exists() and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.05)
        assert socket.exists(), f"the stamp is not served; see {socket.parent}"
        yield socket, server
        server.terminate()


@pytest.fixture(scope="module")
def seen(artifacts, tmp_path_factory, stamp_socket) -> Seen:
    try:
        find("verilator")
    except MissingSimulatorError as missing:
        pytest.skip(str(missing))
    socket, server = stamp_socket
    (module,) = artifacts.build_module(ROOT / "examples" / "rtl" / "linux")
    kept: dict[str, str] = {}

    async def then(rig: Rig) -> None:
        await rig.guest.insmod(module)
        await rig.guest.rmmod("stamp_guest")
        kept["stamps"] = (await rig.guest.run("dmesg | grep stamp_guest")).stdout
        kept["stall"] = str(await stalled(rig, rig.devices, RigError("planted")))

    other = VfioUserDevice(str(socket), msg_timeout_ms=MESSAGE_TIMEOUT_MS)
    folder = tmp_path_factory.mktemp("cosim")
    result = asyncio.run(cosimulate(folder, 200, [other], then))
    output, _ = server.communicate(timeout=30)
    return Seen(result, kept["stamps"], output, kept["stall"])


def test_frames_between_guest_and_rtl_are_lost_damaged_or_reach_freed_memory(seen: Seen):
    assert seen.result.ok, seen.result.text
    assert " 0 stale" in seen.result.text, seen.result.text


def test_a_reply_to_the_guest_waits_for_a_loop_to_be_compiled_or_loaded(seen: Seen):
    assert " 0 loops loaded meanwhile" in seen.result.text, seen.result.text


def test_a_second_design_does_not_reach_guest_memory_or_interrupt(seen: Seen):
    for count in (1, 2, 3):
        assert f"stamp {count} is {0xAB00 + count:#x}" in seen.stamps, seen.stamps
    assert "ledger: clean" in seen.verdict, seen.verdict
    assert " 0 requests were refused" in seen.verdict, seen.verdict


def test_a_stall_does_not_say_what_either_side_was_doing(seen: Seen):
    ours, _, guests = seen.stall.partition("guest's side:")
    for word in ("planted", "client connected", "last access: ", "RX_CTRL 0x3", "TX_TAIL 0x"):
        assert word in ours, seen.stall
    assert "unanswered: nothing" in ours, seen.stall
    assert "rx=" in guests and "MSIX-" in guests, seen.stall
