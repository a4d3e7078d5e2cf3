# SPDX-License-Identifier: MIT
"""Saves a booted guest once and restores copies of it, which is faster than booting.

The memory goes to a file in QEMU's mapped-ram layout, so a restore reads only pages that were ever
used. A vfio-user device does not migrate: the configuration must leave a root port free, and the
device is hot-plugged after the restore (`Guest.plug`).
"""

from dataclasses import dataclass
from pathlib import Path

from vm.artifacts import Artifacts
from vm.errors import SetupError, VmError
from vm.guest import Guest
from vm.machine import GuestConfig, VfioUserDevice


@dataclass(frozen=True)
class Snapshot:
    """A saved guest: the file and the configuration it was booted with."""

    path: Path
    config: GuestConfig

    async def restore(
        self, artifacts: Artifacts, *, log: Path | None = None, hang_after_s: float = 30.0
    ) -> Guest:
        """Starts a new guest in the saved state and returns it once its agent answers.

        Raises:
            QemuDied, GuestHung: QEMU does not take the file, or the guest does not wake up.
        """
        guest = Guest(artifacts, self.config, log=log, hang_after_s=hang_after_s)
        await guest.start(incoming=self.path)
        return guest


async def take_snapshot(artifacts: Artifacts, config: GuestConfig, path: Path) -> Snapshot:
    """Boots a guest, saves it to `path` and ends it.

    Raises:
        SetupError: the configuration has a vfio-user device, which cannot be saved.
        VmError: QEMU could not save it.
    """
    if any(isinstance(device, VfioUserDevice) for device in config.devices):
        raise SetupError(
            "a guest with a vfio-user device cannot be saved: plug it in after the restore"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    async with Guest(artifacts, config) as guest:
        await save(guest, path)
    return Snapshot(path, config)


async def save(guest: Guest, path: Path) -> None:
    """Stops a running guest and saves it; the guest stays stopped.

    Raises:
        VmError: QEMU could not save it; the text holds its reason.
    """
    partial = path.with_name(path.name + ".part")
    await guest.qmp("stop")
    capabilities = [{"capability": "mapped-ram", "state": True}]
    await guest.qmp("migrate-set-capabilities", {"capabilities": capabilities})
    await guest.qmp("migrate", {"uri": f"file:{partial}"})
    answer = await guest.qmp_until(
        "query-migrate", lambda state: state.get("status") in ("completed", "failed", "cancelled")
    )
    if answer["status"] != "completed":
        raise VmError(
            f"QEMU could not save the guest: {answer.get('error-desc', answer['status'])}"
        )
    partial.replace(path)
