# SPDX-License-Identifier: MIT
"""The guest as a whole: boot, commands, files, snapshots, and how its deaths are named."""

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from testbed.rig import DRIVER_SOURCE
from vm.artifacts import Artifacts, setup
from vm.errors import (
    CommandFailed,
    CommandTimeout,
    GuestError,
    GuestHung,
    GuestPanicked,
    QemuDied,
    TransferError,
    VmError,
)
from vm.guest import Guest
from vm.machine import IOMMUS, GuestConfig, Iommu, VfioUserDevice
from vm.protocol import CHUNK, FrameType
from vm.snapshot import Snapshot

pytestmark = pytest.mark.vm

SavedGuests = Callable[[Iommu], Any]


@contextlib.asynccontextmanager
async def restored(
    artifacts: Artifacts, snapshot: Snapshot, hang_after_s: float = 30.0
) -> AsyncIterator[Guest]:
    guest = await snapshot.restore(artifacts, hang_after_s=hang_after_s)
    try:
        yield guest
    finally:
        await guest.stop()


IOMMU_NAMES: dict[Iommu, str] = {
    "none": "",
    "intel-strict": "dmar0",
    "virtio-lazy": "0000:00:1e.0",
    "virtio-strict": "0000:00:1e.0",
}
DOMAIN_TYPES: dict[Iommu, set[str]] = {
    "none": set(),
    "intel-strict": {"DMA"},
    "virtio-lazy": {"DMA-FQ"},
    "virtio-strict": {"DMA"},
}


@pytest.mark.parametrize("iommu", IOMMUS)
def test_boot_brings_up_the_chosen_iommu_without_kernel_warnings(
    artifacts: Artifacts, runner: asyncio.Runner, saved_guests: SavedGuests, iommu: Iommu
) -> None:
    async def scenario() -> tuple[str, set[str]]:
        async with restored(artifacts, saved_guests(iommu).snapshot) as guest:
            names = await guest.run("ls /sys/class/iommu")
            types = await guest.run("cat /sys/kernel/iommu_groups/*/type", check=False)
            return names.stdout.strip(), set(types.stdout.split())

    saved_guests(iommu)
    assert runner.run(scenario()) == (IOMMU_NAMES[iommu], DOMAIN_TYPES[iommu])
    assert saved_guests(iommu).warnings == []


async def guest_clock(guest: Guest) -> tuple[float, float, float]:
    """The host's clock before and after, the guest's in between, in s."""
    before = time.monotonic()
    said = await guest.run("grep -m1 '^now at' /proc/timer_list")
    return before, time.monotonic(), int(said.stdout.split()[2]) / 1e9


def test_guests_clock_must_not_run_at_another_rate_than_the_hosts(
    guest: Guest, runner: asyncio.Runner
) -> None:
    async def scenario() -> tuple[float, float, float]:
        first = await guest_clock(guest)
        await asyncio.sleep(1.5)
        last = await guest_clock(guest)
        return last[0] - first[1], last[2] - first[2], last[1] - first[0]

    shortest, guests, longest = runner.run(scenario())
    assert shortest * 0.99 < guests < longest * 1.01


def test_two_cpus_come_up(artifacts: Artifacts, runner: asyncio.Runner) -> None:
    async def scenario() -> str:
        async with Guest(artifacts, GuestConfig(cpus=2)) as guest:
            return (await guest.run("nproc")).stdout

    assert runner.run(scenario()) == "2\n"


def test_streams_and_status_of_a_command_are_kept_apart(
    guest: Guest, runner: asyncio.Runner
) -> None:
    result = runner.run(guest.run("echo out; echo err >&2; exit 3", check=False))
    assert (result.stdout, result.stderr, result.status) == ("out\n", "err\n", 3)
    assert runner.run(guest.run("kill -TERM $$", check=False)).status == -signal.SIGTERM
    with pytest.raises(CommandFailed, match=r"status 3.*\n.*err"):
        runner.run(guest.run("echo err >&2; exit 3"))


def test_large_output_arrives_whole_and_as_it_is_made(guest: Guest, runner: asyncio.Runner) -> None:
    pieces: list[bytes] = []

    def note(kind: FrameType, data: bytes) -> None:
        assert kind is FrameType.STDOUT
        pieces.append(data)

    result = runner.run(guest.run("seq 1 100000", on_output=note))
    assert result.stdout == "".join(f"{number}\n" for number in range(1, 100001))
    assert b"".join(pieces).decode() == result.stdout
    assert len(pieces) > 10


def test_commands_run_side_by_side(guest: Guest, runner: asyncio.Runner) -> None:
    """The first command waits for the last one: run one after the other, they would never end."""

    async def scenario() -> list[str]:
        waiter = guest.run("while [ ! -e /tmp/go ]; do usleep 1000; done; echo went", timeout_s=20)
        others = [guest.run(f"echo {number}") for number in range(8)]
        results = await asyncio.gather(waiter, *others, guest.run("touch /tmp/go"))
        return [result.stdout.strip() for result in results]

    assert runner.run(scenario()) == ["went", *map(str, range(8)), ""]


def test_command_out_of_time_is_killed_with_its_children(
    guest: Guest, runner: asyncio.Runner
) -> None:
    with pytest.raises(CommandTimeout, match="started"):
        runner.run(guest.run("echo started; sleep 77 & sleep 77; true", timeout_s=5.0))
    left = runner.run(guest.run("ps | grep '[s]leep 77'", check=False))
    assert left.stdout == ""


def test_background_process_does_not_keep_its_command_open(
    guest: Guest, runner: asyncio.Runner
) -> None:
    result = runner.run(guest.run("sleep 60 & echo done", timeout_s=20))
    assert result.stdout == "done\n"


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 5])
def test_pushed_file_comes_back_equal(guest: Guest, runner: asyncio.Runner, size: int) -> None:
    data = random.Random(size).randbytes(size)
    runner.run(guest.push(data, "/tmp/file", 0o750))
    assert runner.run(guest.pull("/tmp/file")) == data
    line = runner.run(guest.run("stat -c %a /tmp/file; sha256sum </tmp/file")).stdout.split()
    assert line[:2] == ["750", hashlib.sha256(data).hexdigest()]


def test_refused_transfers_name_path_and_reason(guest: Guest, runner: asyncio.Runner) -> None:
    with pytest.raises(TransferError, match=r"read /nowhere: ENOENT"):
        runner.run(guest.pull("/nowhere"))
    with pytest.raises(TransferError, match=r"write /no/folder/x: ENOENT"):
        runner.run(guest.push(bytes(5 * CHUNK), "/no/folder/x"))
    with pytest.raises(TransferError, match=r"read /proc: EISDIR"):
        runner.run(guest.pull("/proc"))
    assert runner.run(guest.run("echo alive")).stdout == "alive\n"


def test_many_commands_leave_no_descriptor_or_job_behind(
    guest: Guest, runner: asyncio.Runner
) -> None:
    count = "ls /proc/1/fd | wc -l"
    before = runner.run(guest.run(count)).stdout
    for _ in range(3):
        runner.run(_gather(guest, 50))
    assert runner.run(guest.run(count)).stdout == before


async def _gather(guest: Guest, count: int) -> None:
    await asyncio.gather(*(guest.run(f"echo {number} >&2") for number in range(count)))


def test_panic_is_named_with_the_console(guest: Guest, runner: asyncio.Runner) -> None:
    with pytest.raises(GuestPanicked, match="sysrq triggered crash") as caught:
        runner.run(guest.run("echo c >/proc/sysrq-trigger"))
    assert any("Kernel panic" in line for line in caught.value.console)
    with pytest.raises(GuestPanicked):
        runner.run(guest.run("echo again"))


def test_reset_without_a_word_counts_as_panic(guest: Guest, runner: asyncio.Runner) -> None:
    with pytest.raises(GuestPanicked, match="reset itself"):
        runner.run(guest.run("echo b >/proc/sysrq-trigger"))


def test_killed_qemu_is_named(guest: Guest, runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        command = asyncio.create_task(guest.run("sleep 60"))
        await asyncio.sleep(0)
        os.kill(guest.pid, signal.SIGKILL)
        await command

    with pytest.raises(QemuDied, match="SIGKILL"):
        runner.run(scenario())
    with pytest.raises(QemuDied):
        runner.run(guest.qmp("query-status"))


def test_poweroff_is_no_panic(guest: Guest, runner: asyncio.Runner) -> None:
    with pytest.raises(QemuDied, match="guest-shutdown"):
        runner.run(guest.run("poweroff -f; sleep 60"))


def test_stopped_guest_is_hung(
    artifacts: Artifacts, plain_snapshot: Snapshot, runner: asyncio.Runner
) -> None:
    async def scenario() -> None:
        async with restored(artifacts, plain_snapshot, hang_after_s=1.0) as guest:
            await guest.qmp("stop")
            await guest.run("echo never")

    with pytest.raises(GuestHung, match=r"heartbeat within \d+\.0 s"):
        runner.run(scenario())


def test_refused_command_line_is_told_in_qemus_words(
    artifacts: Artifacts, runner: asyncio.Runner
) -> None:
    guest = Guest(artifacts, GuestConfig(devices=["no-such-device"]))
    with pytest.raises(QemuDied, match="no-such-device"):
        runner.run(guest.start())


def test_missing_device_server_is_refused_at_plug_and_the_guest_lives(
    guest: Guest, runner: asyncio.Runner, tmp_path: Path
) -> None:
    with pytest.raises(VmError, match="device_add"):
        runner.run(guest.plug(VfioUserDevice(str(tmp_path / "nobody.sock"))))
    assert runner.run(guest.run("echo alive")).stdout == "alive\n"


def test_kernel_warning_is_collected(guest: Guest, runner: asyncio.Runner) -> None:
    line = "WARNING: CPU: 0 PID: 1 at mm/slub.c:1 made_up"
    runner.run(guest.run(f"echo '<4>{line}' >/dev/kmsg; echo '<4>harmless' >/dev/kmsg"))
    runner.run(_until(lambda: "harmless" in "\n".join(guest.console.last())))
    assert guest.kernel_warnings() == [line]


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("iommu", IOMMUS)
def test_restored_guest_sees_a_hot_plugged_device(
    artifacts: Artifacts, runner: asyncio.Runner, saved_guests: SavedGuests, iommu: Iommu
) -> None:
    async def scenario() -> list[str]:
        async with restored(artifacts, saved_guests(iommu).snapshot) as guest:
            properties = {"driver": "virtio-net-pci", "bus": "free0", "romfile": ""}
            await guest.qmp("device_add", {**properties, "iommu_platform": True})
            wait = "until grep -q 0x1041 /sys/bus/pci/devices/*/device; do usleep 1000; done"
            await guest.run(wait, timeout_s=20)
            return guest.kernel_warnings()

    saved_guests(iommu)
    assert runner.run(scenario()) == []


def test_every_restore_starts_from_the_saved_state(
    artifacts: Artifacts, plain_snapshot: Snapshot, runner: asyncio.Runner
) -> None:
    async def scenario() -> list[str]:
        seen = []
        for _ in range(2):
            async with restored(artifacts, plain_snapshot) as guest:
                seen.append((await guest.run("ls /tmp")).stdout)
                await guest.run("touch /tmp/left-behind")
        return seen

    assert runner.run(scenario()) == ["mark-of-the-saved-guest\n"] * 2


def test_qemu_dies_with_its_killed_parent(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio
        from vm.artifacts import setup
        from vm.guest import Guest
        from vm.machine import GuestConfig

        async def main():
            async with Guest(setup(), GuestConfig()) as guest:
                print(guest.pid, flush=True)
                await asyncio.sleep(600)

        asyncio.run(main())
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    qemu = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([qemu], timeout=10)[1] == []


def test_stop_leaves_no_process_and_no_descriptor(
    artifacts: Artifacts, runner: asyncio.Runner
) -> None:
    descriptors = psutil.Process().num_fds()

    async def scenario() -> int:
        guest = Guest(artifacts, GuestConfig())
        await guest.start()
        pid = guest.pid
        await guest.stop()
        await guest.stop()
        await asyncio.sleep(0)
        return pid

    pid = runner.run(scenario())
    assert not psutil.pid_exists(pid)
    assert psutil.Process().num_fds() <= descriptors + 1


def test_kernel_and_tree_the_user_names_run_with_their_modules_and_ours(
    artifacts: Artifacts, runner: asyncio.Runner
) -> None:
    images = list(artifacts.kernel.image.parent.glob("boot/vmlinuz-*"))
    if not images or artifacts.kernel.build is None:
        pytest.skip("the kernel is not a Debian one from the cache: leave KERNEL= and KDIR= out")
    names = {"KERNEL": str(images[0]), "KDIR": str(artifacts.kernel.build)}
    named = setup(print, {**os.environ, **names})
    kernel = dataclasses.replace(named.kernel, libraries=artifacts.kernel.libraries)
    named = dataclasses.replace(named, kernel=kernel)
    modules = {path.stem: path for path in named.build_module(DRIVER_SOURCE)}

    async def scenario() -> tuple[str, str, str]:
        async with Guest(named, GuestConfig(iommu="virtio-strict")) as guest:
            await guest.insmod(modules["dmabed_nic"])
            types = await guest.run("cat /sys/kernel/iommu_groups/*/type")
            loaded = await guest.run("lsmod | grep -c ^dmabed_nic")
            release = await guest.run("uname -r")
            return types.stdout.split()[0], loaded.stdout, release.stdout

    assert runner.run(scenario()) == ("DMA", "1\n", f"{named.kernel.release}\n")


def test_setup_again_does_nothing(artifacts: Artifacts) -> None:
    said: list[str] = []
    assert setup(said.append) == artifacts
    assert said == []


def test_errors_of_a_lost_guest_share_a_base() -> None:
    assert all(issubclass(kind, GuestError) for kind in (GuestPanicked, GuestHung, QemuDied))
