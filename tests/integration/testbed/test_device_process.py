# SPDX-License-Identifier: MIT
"""The device process: its errors, its end, and the end of whoever started it."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.iommu.latency import LatencyModel
from emulator.ledger import Policy
from emulator.nic.config import NicConfig
from testbed import device_process
from testbed.benches import NicSpec
from testbed.device_process import DeviceProcess
from testbed.errors import LaboratoryError
from testbed.laboratory import Exposed, Traffic
from tests.support.vfio_user_client import VfioUserClient

pytestmark = pytest.mark.timeout(60)

CONFIG = NicConfig(mac=bytes.fromhex("02dbed00000a"))
ROOT = Path(__file__).parents[3]


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[DeviceProcess]:
    process = DeviceProcess([NicSpec("nic", tmp_path / "s", CONFIG)], Policy(), tmp_path / "log")
    yield process
    process.close()


def test_process_serves_answers_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with DeviceProcess([NicSpec("nic", path, CONFIG)], Policy()) as devices:
        assert devices.pid != os.getpid()
        with VfioUserClient.connect(path) as client:
            client.version()
            assert isinstance(devices.call("exposed", "nic"), Exposed)
    assert devices.process.exitcode == 0
    assert not path.exists()
    devices.close()
    with pytest.raises(LaboratoryError, match="gone"):
        devices.call("verdict")


def test_errors_come_back_by_name_and_the_process_lives_on(devices: DeviceProcess) -> None:
    with pytest.raises(LaboratoryError, match=r"^sent: nic: nothing is plugged in"):
        devices.call("sent", "nic")
    with pytest.raises(LaboratoryError, match=r'^link: no NIC "x"; there are: nic$'):
        devices.call("link", "x", True)
    with pytest.raises(LaboratoryError, match=r"^fly: AttributeError: .*fly"):
        devices.call("fly")
    with pytest.raises(LaboratoryError, match=r"^link: TypeError: .*argument"):
        devices.call("link", "nic")
    with pytest.raises(LaboratoryError, match=r"^send: sizes of 5 to 5 bytes"):
        devices.call("send", "nic", Traffic(5, 5))
    with pytest.raises(LaboratoryError, match=r"^save_events: FileNotFoundError"):
        devices.call("save_events", Path("/nonexistent/events.csv"))
    assert devices.call("device_errors", "nic") == 0


def test_answer_that_cannot_be_sent_does_not_end_the_process(devices: DeviceProcess) -> None:
    with pytest.raises(LaboratoryError, match="_named: "):
        devices.call("_named", "nic")
    assert devices.call("device_errors", "nic") == 0


def test_killed_process_is_reported_with_its_exit_code(devices: DeviceProcess) -> None:
    os.kill(devices.pid, signal.SIGKILL)
    for method in ("verdict", "totals"):
        with pytest.raises(LaboratoryError, match=rf"gone \(exit code -9\) at {method}"):
            devices.call(method)
    devices.close()
    devices.close()


def test_process_that_does_not_answer_is_ended_so_that_no_answer_comes_late(
    devices: DeviceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_process, "_CALL_S", 0.2)
    os.kill(devices.pid, signal.SIGSTOP)
    with pytest.raises(LaboratoryError, match=r"did not answer exposed in 0\.2 s"):
        devices.call("exposed", "nic")
    with pytest.raises(LaboratoryError, match="gone"):
        devices.call("verdict")


def test_interrupt_from_the_terminal_leaves_the_process_to_its_owner(
    devices: DeviceProcess,
) -> None:
    os.kill(devices.pid, signal.SIGINT)
    for _ in range(20):
        devices.call("latency", "nic", LatencyModel())
    assert devices.process.is_alive()


@pytest.mark.parametrize("broken", ["too long", "taken", "a file"])
def test_socket_that_cannot_be_had_is_named_and_nothing_stays(tmp_path: Path, broken: str) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    with socket.socket(socket.AF_UNIX) as other:
        if broken == "too long":
            bad = tmp_path / ("x" * 120)
        elif broken == "taken":
            other.bind(str(bad))
            other.listen()
        else:
            bad.touch()
        before = {child.pid for child in multiprocessing.active_children()}
        specs = [NicSpec("a", good, CONFIG), NicSpec("b", bad, CONFIG)]
        with pytest.raises(LaboratoryError, match=bad.name):
            DeviceProcess(specs, Policy())
        assert not good.exists()
        assert {child.pid for child in multiprocessing.active_children()} <= before


PARENT = """
import sys
from pathlib import Path
from emulator.ledger import Policy
from emulator.nic.config import NicConfig
from testbed.device_process import DeviceProcess
from testbed.benches import NicSpec

spec = NicSpec("nic", Path(sys.argv[1]), NicConfig(mac=bytes.fromhex("02dbed00000a")))
devices = DeviceProcess([spec], Policy())
print(devices.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("stuck", [False, True])
def test_device_process_dies_with_its_parent_even_if_stuck(tmp_path: Path, stuck: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "s")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        child = os.pidfd_open(pid)
        try:
            if stuck:
                os.kill(pid, signal.SIGSTOP)
            assert not select.select([child], [], [], 0)[0], "it is alive"
            parent.kill()
            assert select.select([child], [], [], 20)[0], "it outlives its parent"
        finally:
            os.close(child)
