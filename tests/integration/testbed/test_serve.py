# SPDX-License-Identifier: MIT
"""``dmabed serve`` as a user runs it: a device of one's own, ended by a signal, with a verdict."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.vfio_user.messages import PciRegion
from tests.support.vfio_user_client import VfioUserClient

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "scratch_device.py"
ID = 0x53435241_54434821

#: A device that takes for its own the buffer whose IOVA is written to it.
OWNER = """
import numpy as np
from emulator.pci.device import PciDevice
from emulator.ports import RingKind

class Owner(PciDevice):
    def mmio_write(self, bar, offset, value, size, now_ns):
        buffer = np.array([value], np.uint64), np.array([64], np.int64)
        self.observer.posted(now_ns, 0, RingKind.RX_DESC, *buffer)
"""


class Served:
    """The command in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "testbed.cli", "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()

    def end(self, number: int | None = None) -> tuple[int, str, str]:
        """Sends the signal and waits: status, what was printed, what was complained of."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "s"
    yield path
    assert not path.exists(), "the socket is left behind"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_idle_server_ends_on_a_signal_with_the_verdict(socket_path: Path, number: int) -> None:
    served = Served(f"{EXAMPLE}:ScratchDevice", "--socket", str(socket_path))
    status, out, err = served.end(number)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "ledger: clean"
    assert "scratch_device: 0 maps" in out


def test_served_device_answers_and_the_line_for_qemu_names_its_socket(socket_path: Path) -> None:
    served = Served(f"{EXAMPLE}:ScratchDevice", "--socket", str(socket_path))
    assert f'"path": "{socket_path}"' in served.first_line
    assert '"driver": "vfio-user-pci"' in served.first_line
    with VfioUserClient.connect(socket_path) as client:
        client.version()
        client.region_write(PciRegion.CONFIG, 4, b"\6\0")
        assert int.from_bytes(client.region_read(0, 0, 8), "little") == ID
        client.dma_map(0x1000, 4096)
        status, out, _ = served.end(signal.SIGINT)
        client.wait_hangup()
    assert status == 0
    assert "1 maps, 1 unmaps" in out, "what a client leaves mapped goes with it"


def test_guest_that_breaks_a_rule_ends_with_status_3_and_the_rule(
    socket_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "d.py").write_text(OWNER)
    served = Served(f"{tmp_path / 'd.py'}:Owner", "--socket", str(socket_path))
    with VfioUserClient.connect(socket_path) as client:
        client.version()
        client.region_write(PciRegion.CONFIG, 4, b"\6\0")
        client.dma_map(0x10000, 4096)
        client.region_write(PciRegion.BAR0, 0, (0x10000).to_bytes(4, "little"))
        client.dma_unmap(0x10000, 4096)
    status, out, _ = served.end(signal.SIGTERM)
    assert status == 3
    assert out.startswith("ledger: violated O-3\n")
    assert "0x10000" in out


@pytest.mark.parametrize(
    ("device", "words"),
    [("nowhere.py:X", "nowhere.py"), (f"{EXAMPLE}:Missing", "Missing"), ("what", "file.py:")],
)
def test_device_that_cannot_be_loaded_ends_with_status_1_and_no_socket(
    socket_path: Path, device: str, words: str
) -> None:
    status, out, err = Served(device, "--socket", str(socket_path)).end()
    assert (status, out) == (1, "")
    assert err.startswith("dmabed: ") and words in err and "Traceback" not in err


def test_socket_that_is_taken_is_refused_and_left_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "s"
    device = f"{EXAMPLE}:ScratchDevice"
    first = Served(device, "--socket", str(path))
    status, _, err = Served(device, "--socket", str(path)).end()
    assert status == 1 and str(path) in err
    assert path.exists()
    assert first.end(signal.SIGTERM)[0] == 0
