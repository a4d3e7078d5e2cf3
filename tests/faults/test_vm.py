# SPDX-License-Identifier: MIT
"""The rung vm, in short: a few faults of every kind against the Linux driver in one guest.

Shows that a stock kernel with our driver survives a device that misbehaves: nothing hangs, no
warning of the kernel, no accusation of the ledger, everything given back at the end. All faults:
``make faults``.
"""

import asyncio

import pytest

from testbed.faults.command import fault_guest
from testbed.faults.process import PLAYS, play_process
from testbed.faults.results import matrix

pytestmark = [pytest.mark.vm, pytest.mark.slow]

#: Refused DMA, poisoned ring memory, a lost interrupt, a hole in a ring, a device gone and back.
FEW = ["wild-address", "poisoned-slots", "lost-interrupt", "missing-completion", "gone"]


@pytest.fixture(scope="module")
def artifacts():
    from vm.artifacts import setup

    return setup(print)


def test_linux_driver_survives_a_device_that_misbehaves(artifacts, tmp_path):
    async def play():
        async with fault_guest(artifacts, tmp_path, "intel-strict") as guest:
            results = [await guest.play(name) for name in FEW]
            await guest.stop()
            return results, guest.rig.guest.kernel_warnings()

    results, warnings = asyncio.run(play())
    assert all(result.ok for result in results), matrix(results)
    assert warnings == []


def test_guest_outlives_the_devices_process_and_takes_another(artifacts, tmp_path):
    async def play():
        async with fault_guest(artifacts, tmp_path, "intel-strict") as guest:
            return await play_process(guest, "device-restarted")

    result = asyncio.run(play())
    assert result.ok, matrix([result])


def test_every_play_of_the_process_says_what_it_shows():
    for name, play in PLAYS.items():
        assert name
        assert play.expect
        assert len(play.shows) > 20
