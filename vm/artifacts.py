# SPDX-License-Identifier: MIT
"""Everything a guest is made of, found or set up: QEMU, kernel, compiler, busybox, agent."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vm.accel import Acceleration, probe_acceleration
from vm.apt import Progress
from vm.cache import cache_dir
from vm.checkers import checkers_of, patience_of
from vm.errors import SetupError
from vm.guest_tools import provide_tools
from vm.initramfs import GuestPrograms, provide_busybox, provide_initramfs
from vm.kernel import Flavour, KernelTree, provide_kernel
from vm.kernel_config import require_drivers
from vm.machine import BootFiles, GuestConfig, Platform
from vm.module_build import build_agent, build_module
from vm.qemu import Qemu, provide_qemu
from vm.toolchain import Toolchain, provide_toolchain
from vm.tsc_rate import tsc_khz


@dataclass(frozen=True)
class Artifacts:
    """What `setup` provides; guests are started from it."""

    cache: Path
    qemu: Qemu
    kernel: KernelTree
    toolchain: Toolchain
    programs: GuestPrograms
    acceleration: Acceleration
    tsc_khz: int

    @property
    def platform(self) -> Platform:
        """What decides, beside the configuration, how QEMU and the kernel are started."""
        return Platform(self.acceleration.kind, self.qemu.version, self.tsc_khz)

    @property
    def patience(self) -> float:
        """What waits for a guest are multiplied by, see `vm.checkers.patience_of`."""
        return patience_of(self.kernel, self.acceleration)

    def boot_files(self, config: GuestConfig) -> BootFiles:
        """Kernel, initramfs and firmware for a configuration.

        Raises:
            SetupError: the kernel lacks a driver that the configuration needs.
        """
        require_drivers(self.kernel, config)
        initramfs = provide_initramfs(self.cache, self.kernel, self.programs, config.boot_modules)
        return BootFiles(self.kernel.image, initramfs, "qboot.rom" if self.kernel.pvh else None)

    def that_wakes(self) -> "Artifacts":
        """The same, but booted in the long way, by firmware: only so a guest comes back from S3.

        A kernel that QEMU itself puts into memory is put there again at the reset of the waking,
        over what the sleeping kernel had become; and qboot does not know how to wake.

        Raises:
            SetupError: of this kernel there is no bzImage.
        """
        if not self.kernel.pvh:
            return self
        if self.kernel.packed is None:
            raise SetupError(
                f"{self.kernel.image} cannot wake from S3: name its bzImage by KERNEL="
            )
        return replace(self, kernel=replace(self.kernel, image=self.kernel.packed, pvh=False))

    def build_module(self, source: Path) -> list[Path]:
        """Builds the kernel module(s) in a folder; see `vm.module_build.build_module`."""
        return build_module(self.kernel, source, self.cache, self.toolchain)

    def describe(self) -> list[str]:
        """Lines for people: what guests are made of."""
        return [
            self.qemu.describe(),
            f"Linux {self.kernel.release} ({self.kernel.image})",
            f"compiler {self.toolchain.cc}",
            f"acceleration: {self.acceleration.describe()}",
            *self._checking(),
            f"cache {self.cache}",
        ]

    def _checking(self) -> list[str]:
        """A line on the kernel's checkers, if it has any."""
        names = ", ".join(sorted(checkers_of(self.kernel)))
        waits = f"; guests are waited for {self.patience:g} times as long"
        return [f"kernel checkers: {names}{waits if self.patience != 1 else ''}"] if names else []


def quiet(_line: str) -> None:
    """A progress callback that says nothing."""


def setup(
    progress: Progress = quiet,
    environ: Mapping[str, str] = os.environ,
    flavour: Flavour = "cloud",
) -> Artifacts:
    """Finds or fetches all a guest needs; does nothing but look when everything is there.

    `flavour` is which of Debian's kernels is taken; a kernel named by the user or found on another
    distribution is taken as it is.

    Raises:
        SetupError: something is missing and cannot be provided; the text names the cure.
        BuildError: the guest agent does not compile.
    """
    cache = cache_dir(environ)
    qemu = provide_qemu(cache, progress, environ)
    kernel = provide_kernel(cache, progress, environ, flavour)
    toolchain = provide_toolchain(cache, progress)
    programs = GuestPrograms(
        busybox=provide_busybox(cache, progress, environ),
        agent=build_agent(cache, toolchain),
        tools=provide_tools(cache, progress, environ),
    )
    acceleration = probe_acceleration(cache, qemu, kernel, progress)
    rate = tsc_khz(cache, toolchain)
    return Artifacts(cache, qemu, kernel, toolchain, programs, acceleration, rate)
