# SPDX-License-Identifier: MIT
"""What both sides of a co-simulation were doing when the guest waited in vain."""

from __future__ import annotations

from emulator.nic import registers as r
from emulator.rtl.nic_device import RtlNicDevice
from testbed.benches import Bench
from testbed.cosim.process import SimulatorProcess
from testbed.errors import LaboratoryError, TestbedError
from testbed.rig import Rig
from vm.errors import VmError

READ = ("RX_CTRL", "RX_HEAD", "TX_CTRL", "TX_HEAD", "MODERATION")
WRITTEN = ("RX_TAIL", "TX_TAIL", "ARM")
IN_GUEST = (
    "grep -i msix /proc/interrupts; for i in /sys/class/net/eth*; do echo $i"
    " up=$(cat $i/flags) rx=$(cat $i/statistics/rx_packets) tx=$(cat $i/statistics/tx_packets);"
    " done; dmesg | tail -n 8"
)


class CosimStallError(TestbedError):
    """The guest or the simulator did not get on; the text has the state of both."""


def described(bench: Bench) -> list[str]:
    """The device's side: connection, last access, rings, requests without an answer, vectors."""
    device, endpoint = bench.device, bench.seat.endpoint
    assert isinstance(device, RtlNicDevice)
    server, link, figures = bench.seat.server, device.design.link, device.figures
    client = "connected" if server.connection else "gone, or never came"
    lines = [
        f"client {client}; {endpoint.device_errors} exceptions; slowest {figures.slowest_s:.2f} s",
        f"last access: {device.last}; cycle {link.cycle}, {link.count} TLPs sent, "
        f"{link.backlog} wait for the design; {device.refused} requests refused",
    ]
    for queue in range(device.msix_vectors - 1):
        base = r.qp_base(queue)
        values = [f"{n} {device.mmio_read(0, base + offset(n), 4):#x}" for n in READ]
        values += [f"{n} {device.monitor.latest.get(base + offset(n), 0):#x}" for n in WRITTEN]
        lines.append(f"queue pair {queue}: {', '.join(values)}")
    lines.append(f"unanswered: {', '.join(map(str, device.open.values())) or 'nothing'}")
    if device.ats is not None:
        itags = sorted(device.ats.agent.pending)
        lines.append(f"invalidates without a completion: ITags {itags}")
    pending = sorted(endpoint.function.msix.pending)
    lines.append(f"{figures.interrupts} interrupts sent by the design; pending vectors {pending}")
    return lines


def offset(name: str) -> int:
    """Of a queue pair's register."""
    return int(getattr(r, f"DMABED_QP_{name}"))


async def stalled(rig: Rig, devices: SimulatorProcess, why: Exception) -> CosimStallError:
    """The error to raise when ``why`` ended a co-simulation."""
    try:
        ours = devices.call("state")
    except (LaboratoryError, AssertionError) as error:
        ours = f"no answer: {error}"
    try:
        guests = (await rig.guest.run(IN_GUEST, timeout_s=10, check=False)).stdout
    except VmError as error:
        guests = f"no answer: {error}"
    text = f"{why}\ndevice's side:\n{indented(ours)}\nguest's side:\n{indented(guests)}"
    return CosimStallError(text)


def indented(text: str) -> str:
    """Two blanks before each line."""
    return "\n".join("  " + line for line in text.splitlines())
