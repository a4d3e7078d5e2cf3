# SPDX-License-Identifier: MIT
"""QEMU command lines: what must be there, and in which order."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from vm.errors import SetupError
from vm.machine import (
    ALL_IOMMUS,
    BootFiles,
    Channels,
    GuestConfig,
    Iommu,
    Platform,
    QemuNic,
    VfioUserDevice,
    kernel_command_line,
    qemu_arguments,
)

BOOT = BootFiles(Path("/k/vmlinux"), Path("/k/initramfs"), "qboot.rom")
TCG = Platform("tcg", (11, 1, 3))
KVM = Platform("kvm", (11, 1, 3))


def arguments(
    config: GuestConfig, accel: Any = "tcg", version: tuple[int, ...] = (11, 1, 3)
) -> list[str]:
    return qemu_arguments(config, BOOT, Channels(10, 11, 12, 13), Platform(accel, version))


def devices(args: list[str]) -> list[dict[str, Any]]:
    values = [value for option, value in itertools.pairwise(args) if option == "-device"]
    return [
        json.loads(value) if value.startswith("{") else {"driver": value.split(",")[0]}
        for value in values
    ]


@pytest.mark.parametrize("iommu", ALL_IOMMUS[1:])
def test_iommu_precedes_every_other_device(iommu: Iommu) -> None:
    config = GuestConfig(iommu=iommu, devices=[VfioUserDevice("/s")], free_ports=1)
    drivers = [device["driver"] for device in devices(arguments(config))]
    vendor = iommu.partition("-")[0]
    assert drivers[0] == f"{vendor}-iommu" + ("-pci" if vendor == "virtio" else "")
    assert drivers.index("vfio-user-pci") > 0


def test_intel_iommu_reports_its_mappings() -> None:
    args = arguments(GuestConfig(iommu="intel-strict"))
    assert "intel-iommu,caching-mode=on" in args


def test_amd_iommu_that_tells_vfio_nothing_is_not_asked_for() -> None:
    for iommu in ("amd-lazy", "amd-strict"):
        assert any(
            word.startswith("amd-iommu,dma-remap=on")
            for word in arguments(GuestConfig(iommu=iommu))
        )


def test_no_iommu_means_none() -> None:
    assert not any("iommu" in argument for argument in arguments(GuestConfig()))


def test_memory_is_a_shared_memfd_of_the_size_asked_for() -> None:
    args = arguments(GuestConfig(memory_mib=512))
    assert "memory-backend-memfd,id=ram,size=512M,share=on" in args
    assert any("memory-backend=ram" in argument for argument in args)
    assert args[args.index("-m") + 1] == "512M"


def test_each_device_has_a_root_port_of_its_own() -> None:
    config = GuestConfig(devices=[VfioUserDevice("/a"), VfioUserDevice("/b")], free_ports=2)
    args = arguments(config)
    ports = [argument for argument in args if argument.startswith("pcie-root-port")]
    assert ports == [
        "pcie-root-port,id=port0,chassis=1,slot=1",
        "pcie-root-port,id=port1,chassis=2,slot=2",
        "pcie-root-port,id=free0,chassis=3,slot=3",
        "pcie-root-port,id=free1,chassis=4,slot=4",
    ]
    nics = [device for device in devices(args) if device["driver"] == "vfio-user-pci"]
    assert [nic["bus"] for nic in nics] == ["port0", "port1"]
    assert nics[1]["socket"] == {"type": "unix", "path": "/b"}


def test_message_timeout_and_options_reach_the_device() -> None:
    device = VfioUserDevice("/s", msg_timeout_ms=60000, options={"x-no-posted-writes": True})
    properties = device.properties("free0", "nic")
    assert properties["x-msg-timeout"] == 60000
    assert properties["x-no-posted-writes"] is True


@pytest.mark.parametrize("model", ["virtio-net-pci", "e1000e", "igb"])
def test_comparison_nic_is_fed_by_datagrams_and_uses_the_iommu(model: Any) -> None:
    args = arguments(GuestConfig(devices=[QemuNic(model, "/local", "/remote")]))
    netdev = json.loads(args[args.index("-netdev") + 1])
    assert netdev["type"] == "dgram"
    assert netdev["remote"] == {"type": "unix", "path": "/remote"}
    nic = devices(args)[-1]
    assert nic["netdev"] == netdev["id"]
    assert nic.get("iommu_platform", False) == (model == "virtio-net-pci")


@pytest.mark.parametrize(
    ("iommu", "words"),
    [
        ("none", []),
        ("intel-strict", ["intel_iommu=on", "iommu.strict=1"]),
        ("virtio-lazy", ["iommu.strict=0"]),
        ("virtio-strict", ["iommu.strict=1"]),
        ("intel-lazy", ["intel_iommu=on", "iommu.strict=0"]),
        ("amd-lazy", ["iommu.strict=0"]),
        ("amd-strict", ["iommu.strict=1"]),
    ],
)
def test_kernel_is_told_strict_or_lazy(iommu: Iommu, words: list[str]) -> None:
    line = kernel_command_line(GuestConfig(iommu=iommu), TCG).split()
    assert [word for word in line if "iommu" in word] == words


def test_lock_prefixes_stay_on_one_cpu_only() -> None:
    assert "noreplace-smp" in kernel_command_line(GuestConfig(cpus=1), KVM)
    assert "noreplace-smp" not in kernel_command_line(GuestConfig(cpus=2), TCG)


@pytest.mark.parametrize(("cpus", "accel", "said"), [(1, "tcg", 1), (2, "tcg", 0), (1, "kvm", 0)])
def test_apic_timer_is_missing_where_cpus_or_kvm_need_it(cpus: int, accel: Any, said: int) -> None:
    line = kernel_command_line(GuestConfig(cpus=cpus), Platform(accel, (11, 1, 3))).split()
    assert line.count("nolapic_timer") == said


@pytest.mark.parametrize("cpus", [1, 2])
def test_busy_host_must_not_panic_an_emulated_boot_or_bend_its_clock(cpus: int) -> None:
    config = GuestConfig(cpus=cpus)
    emulated = kernel_command_line(config, Platform("tcg", (11, 1, 3), tsc_khz=2_100_000)).split()
    assert {"no_timer_check", "tsc_early_khz=2100000"} <= set(emulated)
    assert not any("tsc_early" in word for word in kernel_command_line(config, TCG).split())
    virtual = kernel_command_line(config, Platform("kvm", (11, 1, 3), tsc_khz=2_100_000))
    assert "tsc_early" not in virtual
    assert "no_timer_check" not in virtual


@pytest.mark.parametrize("iommu", ALL_IOMMUS)
def test_driver_of_virtio_iommu_is_loaded_only_where_there_is_one(iommu: Iommu) -> None:
    modules = GuestConfig(iommu=iommu, modules=["igb"]).boot_modules
    assert ("virtio_iommu" in modules) == iommu.startswith("virtio")
    assert modules[0] == "virtio_pci"
    assert modules[-1] == "igb"


def test_users_kernel_arguments_come_last_and_so_win() -> None:
    line = kernel_command_line(GuestConfig(kernel_args=["loglevel=7"]), TCG)
    assert line.endswith(" loglevel=7")


def test_monitor_is_said_as_the_version_wants_it() -> None:
    assert "monitor-qmp,id=monitor,chardev=qmp" in arguments(GuestConfig())
    assert "-mon" not in arguments(GuestConfig())
    assert "-mon" in arguments(GuestConfig(), version=(10, 1, 1))


def test_kernel_without_pvh_gets_the_default_firmware() -> None:
    boot = BootFiles(Path("/k/bzImage"), Path("/k/i"), None)
    args = qemu_arguments(GuestConfig(), boot, Channels(1, 2, 3, 4), TCG)
    assert "-bios" not in args


def test_kvm_takes_the_hosts_cpu_and_a_split_interrupt_chip() -> None:
    args = arguments(GuestConfig(), accel="kvm")
    assert args[args.index("-cpu") + 1] == "host"
    assert any("kernel-irqchip=split" in argument for argument in args)


@pytest.mark.parametrize(
    "bad", [{"iommu": "amd"}, {"memory_mib": 1}, {"cpus": 0}, {"free_ports": -1}]
)
def test_impossible_guests_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        GuestConfig(**bad)
