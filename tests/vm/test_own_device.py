# SPDX-License-Identifier: MIT
"""The session of docs/own-device.md, word for word: served, booted, tried in the guest's shell."""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vm.artifacts import Artifacts
from vm.guest import Guest
from vm.machine import GuestConfig, Iommu, VfioUserDevice

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "own-device.md"
DMABED = Path(sys.executable).with_name("dmabed")
DEVICE = "/sys/bus/pci/devices/0000:01:00.0"

SCRATCH, SOURCE, TARGET, LENGTH, START, STATUS = range(0x08, 0x38, 8)
DONE, FAULT = 1, 2
FREE_MEMORY = 0x8000000
PBA = 0x800
MSIX_CAPABILITY = 0x11
#: Linux logs a message that nobody waits for, by CPU and vector.
UNCLAIMED_VECTOR = 208
LOCAL_APIC = 0xFEE00000


@dataclass
class Served:
    """A guest with the example behind a root port; ``verdict`` is there when it is over."""

    guest: Guest
    verdict: str = ""

    async def shell(self, command: str) -> str:
        return (await self.guest.run(command, timeout_s=20)).stdout.strip()

    async def bar(self, index: int) -> int:
        lines = (await self.shell(f"cat {DEVICE}/resource")).splitlines()
        return int(lines[index].split()[0], 16)

    async def read(self, address: int, bits: int = 64) -> int:
        return int(await self.shell(f"devmem {address:#x} {bits}"), 16)

    async def write(self, *values: tuple[int, int], bits: int = 64) -> None:
        await self.shell("; ".join(f"devmem {at:#x} {bits} {value:#x}" for at, value in values))

    async def enable(self) -> None:
        """BARs decoded and DMA allowed, as a driver's probe does it."""
        await self.shell(f"echo 1 >{DEVICE}/enable")
        await self.configure(4, 6)

    async def configure(self, offset: int, value: int) -> None:
        """Writes one byte of configuration space."""
        poke = f"dd of={DEVICE}/config bs=1 seek={offset} conv=notrunc 2>/dev/null"
        await self.shell(f"printf '\\{value:03o}' | {poke}")


@contextlib.contextmanager
def dmabed_serve(socket: Path) -> Iterator[subprocess.Popen[str]]:
    """``dmabed serve`` as the guide starts it; its command line comes from there."""
    (command,) = re.findall(r"^ {4}.venv/bin/dmabed (serve .*)$", GUIDE.read_text(), re.M)
    words = command.replace("/tmp/scratch.sock", str(socket)).split()
    server = subprocess.Popen([DMABED, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline().startswith("serving examples/scratch_device.py")
            yield server
        finally:
            server.kill()


@contextlib.asynccontextmanager
async def boot(artifacts: Artifacts, folder: Path, iommu: Iommu) -> AsyncIterator[Served]:
    socket = folder / "scratch.sock"
    with dmabed_serve(socket) as server:
        config = GuestConfig(
            iommu=iommu,
            devices=[VfioUserDevice(str(socket))],
            kernel_args=[f"memmap=1M${FREE_MEMORY:#x}"],
        )
        async with Guest(artifacts, config, log=folder / "console.log") as guest:
            served = Served(guest)
            yield served
        server.send_signal(signal.SIGTERM)
        served.verdict, _ = server.communicate(timeout=20)
        assert server.returncode == 0


@pytest.fixture
def play(artifacts: Artifacts, tmp_path: Path) -> Callable[..., str]:
    """Boots, plays a scene with a `Served`, and returns what the server said at its end."""

    def play(scene: Callable[[Served], Coroutine[Any, Any, None]], iommu: Iommu) -> str:
        async def run() -> str:
            async with boot(artifacts, tmp_path, iommu) as served:
                await scene(served)
            return served.verdict

        return asyncio.run(run())

    return play


def documented_session() -> list[tuple[str, str]]:
    """(command, expected output) of each line of the guide's session in the guest."""
    (session,) = re.findall(r"^ {4}# D=.*\n(?: {4}.*\n)*", GUIDE.read_text(), re.M)
    lines = [line[4:] for line in session.splitlines()]
    steps: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith("# "):
            steps.append((re.sub(r"\s{2,}#.*", "", line[2:]), ""))
        else:
            steps[-1] = (steps[-1][0], line)
    return steps


async def _follow_the_guide(served: Served) -> None:
    variables = ""
    for command, expected in documented_session():
        if re.match(r"\w+=", command):
            variables += f"{command}; "
        assert await served.shell(f"{variables}{command} 2>/dev/null") == expected, command


async def _interrupt_waits_then_arrives(served: Served) -> None:
    """Vector 0 is raised while it is masked, is pending, and is sent once that ends."""
    await served.enable()
    registers, msix = await served.bar(0), await served.bar(4)
    await served.configure(await _msix_capability(served) + 3, 0x80)
    await served.write((msix, LOCAL_APIC), (msix + 8, UNCLAIMED_VECTOR), bits=32)
    await served.write((registers + START, 1))
    assert await served.read(msix + PBA) == 1
    await served.write((msix + 12, 0), bits=32)
    said = f"No irq handler.*0[.]{UNCLAIMED_VECTOR}"
    await served.shell(f"until dmesg | grep -q '{said}'; do usleep 1000; done")
    assert await served.read(msix + PBA) == 0


async def _msix_capability(served: Served) -> int:
    config = await served.guest.pull(f"{DEVICE}/config")
    at = config[0x34]
    while at and config[at] != MSIX_CAPABILITY:
        at = config[at + 1]
    assert at, "no MSI-X capability"
    return at


def test_guides_session_goes_as_printed_and_an_interrupt_arrives(play: Callable[..., str]) -> None:
    async def scene(served: Served) -> None:
        (found,) = re.findall(r"^ {4}(pci 0000:01:00.0.*)$", GUIDE.read_text(), re.M)
        assert found in await served.shell("dmesg | grep 0000:01:00.0")
        await _follow_the_guide(served)
        await _interrupt_waits_then_arrives(served)

    assert play(scene, "none").startswith("ledger: clean")


def test_copy_is_refused_where_the_guest_mapped_nothing(play: Callable[..., str]) -> None:
    async def scene(served: Served) -> None:
        await served.enable()
        bar = await served.bar(0)
        await served.write((FREE_MEMORY, 0xFEEDFACECAFEBEEF), (FREE_MEMORY + 4096, 0))
        copy = ((SOURCE, FREE_MEMORY), (TARGET, FREE_MEMORY + 4096), (LENGTH, 8), (START, 1))
        await served.write(*((bar + register, value) for register, value in copy))
        assert await served.read(bar + STATUS) == FAULT
        assert await served.read(FREE_MEMORY + 4096) == 0

    verdict = play(scene, "intel-strict")
    assert verdict.startswith("ledger: clean")
    assert " 1 read_refused" in verdict
    assert "write_refused" not in verdict, "what could not be read is not written"
