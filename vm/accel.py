# SPDX-License-Identifier: MIT
"""Finds out by running a guest whether KVM works here.

/dev/kvm may exist, open and still fail every guest (nested virtualisation that works half-way), so
guests are run: first a boot sector of a few bytes, which ends QEMU through the debug-exit device
with a status nothing else gives; then the real kernel, as some hosts run the one and not the other.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vm.apt import Progress
from vm.kernel import KernelTree
from vm.qemu import Qemu

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EXIT_PORT = 0xF4
_EXIT_VALUE = 0x21
# isa-debug-exit ends QEMU with (value << 1) | 1.
_EXIT_STATUS = _EXIT_VALUE << 1 | 1
# With KVM both take a fraction of a second.
_SECTOR_TIMEOUT_S = 4.0
_KERNEL_TIMEOUT_S = 8.0


@dataclass(frozen=True)
class Acceleration:
    """Which accelerator works, and why KVM does not if it does not."""

    kind: Literal["kvm", "tcg"]
    reason: str

    def describe(self) -> str:
        """One line for people."""
        return "KVM" if self.kind == "kvm" else f"software emulation (no KVM: {self.reason})"


def boot_sector() -> bytes:
    """512 bytes of 16-bit code: write a byte to the debug-exit port, then halt."""
    code = bytes([0xB0, _EXIT_VALUE, 0xE6, _EXIT_PORT, 0xF4, 0xEB, 0xFD])
    return code.ljust(510, b"\0") + b"\x55\xaa"


def boot_sector_runs(qemu: Qemu, accelerator: str) -> str:
    """Runs the boot sector; returns "" if it ended as it should, else what went wrong."""
    with tempfile.NamedTemporaryFile(suffix=".img") as disk:
        disk.write(boot_sector())
        disk.flush()
        arguments = [
            *("-machine", "pc", "-m", "16M", "-accel", accelerator),
            *("-drive", f"file={disk.name},format=raw,if=ide,snapshot=on"),
            *("-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=1"),
        ]
        return _verdict(qemu, arguments, _EXIT_STATUS, _SECTOR_TIMEOUT_S)


def kernel_runs(qemu: Qemu, kernel: KernelTree, accelerator: str) -> str:
    """Boots the kernel until it panics for want of a root; returns "" if it got there."""
    arguments = [
        *("-machine", "q35,kernel-irqchip=split", "-m", "256M", "-accel", accelerator),
        *("-cpu", "host" if accelerator == "kvm" else "max"),
        *("-kernel", str(kernel.image), "-append", "panic=-1 quiet"),
        *(("-bios", "qboot.rom") if kernel.pvh else ()),
    ]
    return _verdict(qemu, arguments, 0, _KERNEL_TIMEOUT_S)


def _verdict(qemu: Qemu, arguments: Sequence[str], expected: int, timeout_s: float) -> str:
    quiet = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
    try:
        done = subprocess.run(
            [*qemu.command, *quiet, *arguments],
            env={**os.environ, **qemu.environment},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"/dev/kvm opens, but a trial guest did not finish within {timeout_s:.0f} s"
    said = done.stderr.strip().splitlines()
    if done.returncode == expected:
        return ""
    return said[0] if said else f"QEMU ended a trial guest with status {done.returncode}"


def probe_acceleration(
    cache: Path, qemu: Qemu, kernel: KernelTree, progress: Progress
) -> Acceleration:
    """Says whether KVM works; asked once per host boot, QEMU and kernel, then in the cache."""
    store = cache / "accelerations.json"
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    key = "\0".join([*qemu.command, str(kernel.image), str(os.getuid())])
    known = _answers(store, boot)
    if key in known:
        return Acceleration(known[key]["kind"], known[key]["reason"])
    found = _probe(qemu, kernel)
    progress(f"acceleration: {found.describe()}")
    answers = {**known, key: {"kind": found.kind, "reason": found.reason}}
    fresh = store.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps({"boot": boot, "answers": answers}))
    fresh.replace(store)
    return found


def _answers(store: Path, boot: str) -> dict[str, Any]:
    """What was found since the host was booted; nothing if the file is absent or another's."""
    try:
        known = json.loads(store.read_text())
        answers: dict[str, Any] = known["answers"] if known["boot"] == boot else {}
        return answers
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _probe(qemu: Qemu, kernel: KernelTree) -> Acceleration:
    device = Path("/dev/kvm")
    if not device.exists():
        return Acceleration("tcg", "there is no /dev/kvm")
    if not os.access(device, os.R_OK | os.W_OK):
        return Acceleration("tcg", "no permission for /dev/kvm; join the group kvm")
    problem = boot_sector_runs(qemu, "kvm") or kernel_runs(qemu, kernel, "kvm")
    return Acceleration("tcg", problem) if problem else Acceleration("kvm", "")
