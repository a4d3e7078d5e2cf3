# SPDX-License-Identifier: MIT
"""The virtual machine as data: a `GuestConfig` comes in, a QEMU command line goes out.

The IOMMU must precede every vfio-user device on the command line, and guest memory must be a
shared memfd: only then does QEMU forward each mapping, with a file offset, to the device's process.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from vm.errors import SetupError

Iommu: TypeAlias = Literal[
    "none", "intel-strict", "virtio-lazy", "virtio-strict", "intel-lazy", "amd-lazy", "amd-strict"
]
ALL_IOMMUS: tuple[Iommu, ...] = get_args(Iommu)
#: Those that every kernel here can drive and that are by themselves as strict as their name says;
#: for the others see `vm.invalidation` and `vm.kernel_config.flavour_for`.
IOMMUS: tuple[Iommu, ...] = ("none", "intel-strict", "virtio-lazy", "virtio-strict")
Accelerator: TypeAlias = Literal["kvm", "tcg"]
DEFAULT_MSG_TIMEOUT_MS = 5000
# From this version on monitors are objects and `-mon` warns.
_MONITOR_OBJECTS = (11, 1)

# Boot work of no use here that software emulation makes slow: self tests of cryptography,
# certificates and encrypted keys, BPF types, names for enumerators in trace formats, weak functions
# in ftrace's list (45 ms), sysfs of the slab caches (12 ms), checks of a second clock, integrity
# measurement, /dev/cpu/*/msr and VGA arbitration (4 to 5 ms each).
_SKIPPED_INITCALLS = (
    "jent_mod_init",
    "load_system_certificate_list",
    "bpf_tcp_ca_kfunc_init",
    "bpf_dummy_struct_ops_init",
    "latency_fsnotify_init",
    "crypto_kdf108_init",
    "init_encrypted",
    "trace_eval_init",
    "trace_eval_sync",
    "ftrace_check_for_weak_functions",
    "slab_sysfs_init",
    "init_acpi_pm_clocksource",
    "init_ima",
    "msr_init",
    "vga_arb_device_init",
)
# Emulated `rep movsb` and `rep stosb` go byte by byte: without the flags that recommend them the
# kernel copies and clears by words (a boot takes 40 ms less).
_TCG_CPU = "max,la57=off,erms=off,fsrm=off,fsrs=off,fzrm=off,fsrc=off"
_KERNEL_ARGS = (
    "console=ttyS0",
    # Warnings reach the console, the boot's small talk does not: each line costs emulated port
    # writes.
    "loglevel=5",
    "panic=-1",
    "oops=panic",
    "sysrq_always_enabled",
    # No mitigations of processors this is not, no bounce buffers to zero, no policies to load.
    "mitigations=off",
    "swiotlb=512",
    "lsm=capability",
    "cryptomgr.notests",
    "init_on_alloc=0",
    "tsc=reliable",
    "random.trust_cpu=on",
    "8250.nr_uarts=1",
    # Router solicitations and the like would be packets nobody asked for.
    "ipv6.disable=1",
    f"initcall_blacklist={','.join(_SKIPPED_INITCALLS)}",
)
# Rewriting LOCK prefixes at boot costs time and would make atomics look free.
_ONE_CPU_ARGS = ("noreplace-smp",)
# The kernel waits 10 ms for ten ticks of the emulated timer and panics when a busy host let it have
# fewer ("timer doesn't work through Interrupt-remapped IO-APIC").
_EMULATED_ARGS = ("no_timer_check",)
# The kernel counts the ticks of the local APIC's timer for 100 ms before it trusts it; one CPU can
# do with the PIT, whose rate is known, and which costs the same to emulate.
_ONE_EMULATED_CPU_ARGS = ("nolapic_timer",)


@dataclass(frozen=True)
class VfioUserDevice:
    """A device served by another process on a UNIX socket.

    `msg_timeout_ms` is how long QEMU waits for a reply (its `x-msg-timeout`); `options` are
    further properties of `vfio-user-pci`, by QEMU's names.
    """

    socket: str
    msg_timeout_ms: int = DEFAULT_MSG_TIMEOUT_MS
    options: Mapping[str, object] = field(default_factory=dict)

    def properties(self, port: str, device_id: str) -> dict[str, object]:
        """The device's properties as `device_add` and `-device` (in JSON) take them."""
        return {
            "driver": "vfio-user-pci",
            "id": device_id,
            "bus": port,
            "socket": {"type": "unix", "path": self.socket},
            "x-msg-timeout": self.msg_timeout_ms,
            **self.options,
        }


@dataclass(frozen=True)
class QemuNic:
    """One of QEMU's own NICs, for comparison, fed by datagrams between two UNIX sockets."""

    model: Literal["virtio-net-pci", "e1000e", "igb"]
    local: str
    remote: str
    mac: str = "52:54:00:12:34:56"
    options: Mapping[str, object] = field(default_factory=dict)

    def netdev(self, netdev_id: str) -> dict[str, object]:
        """The backend's properties."""
        return {
            "type": "dgram",
            "id": netdev_id,
            "local": {"type": "unix", "path": self.local},
            "remote": {"type": "unix", "path": self.remote},
        }

    def properties(self, port: str, device_id: str, netdev_id: str) -> dict[str, object]:
        """The device's properties; virtio devices use the IOMMU only when told to."""
        own: dict[str, object] = {
            "driver": self.model,
            "id": device_id,
            "bus": port,
            "netdev": netdev_id,
            "mac": self.mac,
            "romfile": "",
        }
        if self.model.startswith("virtio"):
            own["iommu_platform"] = True
        return {**own, **self.options}


@dataclass(frozen=True)
class GuestConfig:
    """What is booted.

    Attributes:
        iommu: which IOMMU the guest has, and whether unmapping is strict or lazy.
        memory_mib: guest memory in MiB.
        cpus: number of virtual CPUs.
        devices: plugged in before boot, each behind a PCIe root port of its own: a
            `VfioUserDevice` or a `QemuNic`; a plain string is passed to `-device` as it is.
        free_ports: empty root ports `free0`, `free1`, ... for devices hot-plugged later.
        kernel_args: appended to the kernel's command line.
        modules: kernel modules (names from the kernel's own tree) the agent loads at boot, beside
            what the machine itself needs.
        qemu_args: appended to QEMU's command line.
    """

    iommu: Iommu = "none"
    memory_mib: int = 256
    cpus: int = 1
    devices: Sequence[VfioUserDevice | QemuNic | str] = ()
    free_ports: int = 0
    kernel_args: Sequence[str] = ()
    modules: Sequence[str] = ()
    qemu_args: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuses what QEMU would refuse later with less to say (SetupError)."""
        if self.iommu not in ALL_IOMMUS:
            known = ", ".join(ALL_IOMMUS)
            raise SetupError(f"unknown IOMMU {self.iommu!r}: choose one of {known}")
        if self.memory_mib < 64 or self.cpus < 1 or self.free_ports < 0:
            raise SetupError(
                "a guest needs at least 64 MiB, one CPU and no negative number of ports"
            )

    @property
    def boot_modules(self) -> list[str]:
        """All modules to load at boot, where the kernel has them as modules at all."""
        iommu = ["virtio_iommu"] if self.iommu.startswith("virtio") else []
        return ["virtio_pci", "virtio_console", *iommu, *self.modules]


@dataclass(frozen=True)
class BootFiles:
    """The files a boot takes; `firmware` is None for a kernel QEMU's default firmware must load."""

    kernel: Path
    initramfs: Path
    firmware: str | None


@dataclass(frozen=True)
class Platform:
    """What guests run on.

    Attributes:
        accelerator: KVM or software emulation.
        qemu_version: as QEMU says it, in numbers.
        tsc_khz: rate of the host's time stamp counter; 0: the guest finds out itself.
    """

    accelerator: Accelerator
    qemu_version: tuple[int, ...]
    tsc_khz: int = 0


@dataclass(frozen=True)
class Channels:
    """File descriptors QEMU inherits: sockets for the console, the agent, QMP and the trace."""

    agent: int
    qmp: int
    console: int
    trace: int


def kernel_command_line(config: GuestConfig, platform: Platform) -> str:
    """The kernel arguments of a configuration."""
    args = [*_KERNEL_ARGS]
    emulated = platform.accelerator == "tcg"
    if emulated:
        args += _EMULATED_ARGS
        args += [f"tsc_early_khz={platform.tsc_khz}"] if platform.tsc_khz else []
    if config.cpus == 1:
        args += _ONE_CPU_ARGS
        args += _ONE_EMULATED_CPU_ARGS if emulated else ()
    if config.iommu.startswith("intel"):
        args.append("intel_iommu=on")
    if config.iommu != "none":
        args.append(f"iommu.strict={int(config.iommu.endswith('strict'))}")
    return " ".join([*args, *config.kernel_args])


def _iommu_arguments(iommu: Iommu) -> list[str]:
    if iommu == "none":
        return []
    if iommu.startswith("intel"):
        return ["-device", "intel-iommu,caching-mode=on"]
    if iommu.startswith("amd"):
        # Without dma-remap QEMU tells vfio nothing of what the guest maps; interrupts are remapped
        # as with the others.
        return ["-device", "amd-iommu,dma-remap=on,intremap=on,xtsup=on"]
    return ["-device", "virtio-iommu-pci,addr=1e.0"]


def _device_arguments(config: GuestConfig) -> list[str]:
    args: list[str] = []
    for index, device in enumerate(config.devices):
        if isinstance(device, str):
            args += ["-device", device]
            continue
        port = f"port{index}"
        args += ["-device", root_port(port, index + 1)]
        if isinstance(device, QemuNic):
            args += ["-netdev", json.dumps(device.netdev(f"net{index}"))]
            properties = device.properties(port, f"dev{index}", f"net{index}")
        else:
            properties = device.properties(port, f"dev{index}")
        args += ["-device", json.dumps(properties)]
    for index in range(config.free_ports):
        args += ["-device", root_port(f"free{index}", len(config.devices) + index + 1)]
    return args


def root_port(name: str, slot: int) -> str:
    """A PCIe root port as a `-device` argument; slots count from 1."""
    return f"pcie-root-port,id={name},chassis={slot},slot={slot}"


def _monitor(qemu_version: tuple[int, ...]) -> tuple[str, str]:
    if qemu_version >= _MONITOR_OBJECTS:
        return "-object", "monitor-qmp,id=monitor,chardev=qmp"
    return "-mon", "chardev=qmp,mode=control"


def _channel_arguments(channels: Channels, qemu_version: tuple[int, ...]) -> list[str]:
    return [
        *("-chardev", f"socket,id=console,fd={channels.console}", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci,addr=1d.0"),
        *("-chardev", f"socket,id=agent,fd={channels.agent}"),
        *("-device", "virtserialport,chardev=agent,name=dmabed.agent"),
        *("-chardev", f"socket,id=trace,fd={channels.trace}"),
        *("-device", "virtserialport,chardev=trace,name=dmabed.trace"),
        *("-chardev", f"socket,id=qmp,fd={channels.qmp}"),
        *_monitor(qemu_version),
    ]


def qemu_arguments(
    config: GuestConfig,
    boot: BootFiles,
    channels: Channels,
    platform: Platform,
) -> list[str]:
    """QEMU's arguments (without the program) for a configuration."""
    accel = platform.accelerator
    # Interrupt remapping, which intel-iommu brings along, needs the split interrupt chip under KVM.
    irqchip = ",kernel-irqchip=split" if accel == "kvm" else ""
    args = [
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-name", "dmabed"),
        *(
            "-machine",
            f"q35,memory-backend=ram,sata=off,smbus=off,i8042=off,hpet=off,vmport=off{irqchip}",
        ),
        *("-accel", accel),
        *("-cpu", "host" if accel == "kvm" else _TCG_CPU),
        *("-smp", str(config.cpus)),
        *("-m", f"{config.memory_mib}M"),
        *("-object", f"memory-backend-memfd,id=ram,size={config.memory_mib}M,share=on"),
        *("-kernel", str(boot.kernel), "-initrd", str(boot.initramfs)),
        *("-append", kernel_command_line(config, platform)),
    ]
    if boot.firmware is not None:
        args += ["-bios", boot.firmware]
    args += _iommu_arguments(config.iommu)
    args += _channel_arguments(channels, platform.qemu_version)
    args += _device_arguments(config)
    return [*args, *config.qemu_args]
