# SPDX-License-Identifier: MIT
"""X-58 on the wire: the server is killed or stopped under traffic, and takes its place again."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from emulator.frames import FrameBatch
from emulator.ledger import Policy
from emulator.nic.config import NicConfig
from emulator.nic.wire.testframes import check
from testbed.benches import NicSpec
from testbed.device_process import DeviceProcess
from testbed.laboratory import Traffic
from tests.integration.testbed.support import GuestNic, until
from tests.support.nic_host import MAC, Side
from tests.support.vfio_user_client import HungUpError

pytestmark = pytest.mark.timeout(60)

FRAMES = 40


def receive(devices: DeviceProcess, ring: Side) -> None:
    """All frames arrive, each as it was sent."""
    ring.post(FRAMES)
    devices.call("send", "nic", Traffic(60, 1514, count=FRAMES, flows=3))
    until(lambda: devices.call("sent", "nic") == (FRAMES, True), "the frames")
    frames = FrameBatch.of(ring.frames())
    assert len(frames) == FRAMES and check(frames).intact.all()


def test_server_killed_under_traffic_is_of_no_use_when_it_is_started_again(tmp_path: Path):
    path = tmp_path / "s"
    spec = NicSpec("nic", path, NicConfig(mac=MAC))
    with DeviceProcess([spec], Policy()) as first:
        guest = GuestNic(path)
        ring = guest.up()
        ring.post(5)
        first.call("send", "nic", Traffic())  # without end: it waits for buffers when it dies
        until(lambda: first.call("sent", "nic")[0] >= 5, "the first frames")
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(HungUpError):
            while True:
                guest.note(1)
        guest.client.close()
    assert path.is_socket()  # nobody tidied up
    with DeviceProcess([spec], Policy()) as second:
        guest.connect(path)
        assert second.call("exposed", "nic").live == 0  # what was mapped died with the server
        ring = guest.up()
        receive(second, ring)
        guest.down(ring)
        verdict, exposed = second.call("verdict"), second.call("exposed", "nic")
        assert (verdict["word"], verdict["violations"]) == ("clean", [])
        assert (exposed.live, exposed.posted) == (0, 0)
        guest.close()


def test_server_that_was_stopped_has_lost_what_was_asked_of_it_meanwhile(tmp_path: Path):
    path = tmp_path / "s"
    with DeviceProcess([NicSpec("nic", path, NicConfig(mac=MAC))], Policy()) as devices:
        guest = GuestNic(path)
        ring = guest.up()
        os.kill(devices.pid, signal.SIGSTOP)
        waker = threading.Timer(0.3, os.kill, (devices.pid, signal.SIGCONT))
        waker.start()
        ring.post(5)  # the doorbell's answer comes when the server goes on
        waker.join()
        devices.call("send", "nic", Traffic(count=5))
        until(lambda: devices.call("sent", "nic") == (5, True), "the frames")
        assert len(ring.frames()) == 5
        receive(devices, ring)
        guest.down(ring)
        assert devices.call("verdict")["word"] == "clean"
        guest.close()
