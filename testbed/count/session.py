# SPDX-License-Identifier: MIT
"""A guest under the counting plugin: sets a cell up, sends bursts, reads what was counted.

What makes counts repeat: a burst is 512 frames, all of them in the ring before the interrupt, by
its frame bound, so that NAPI finds 8 full polls; counting is on in the driver's poll only;
interrupts that come in between are left out; two bursts warm caches up and are thrown away; and
figures are averages over the bursts that follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.count.build import counting_driver
from testbed.count.dump import Dump, parse_dumps
from testbed.count.results import Fate, Mode
from testbed.count.symbols import SymbolTable, parse_kallsyms
from testbed.errors import RigError
from testbed.laboratory import Traffic
from testbed.rig import Rig, open_rig
from testbed.scenario import Iommu, NicPlan, VmPlan
from vm.accel import Acceleration
from vm.artifacts import Artifacts
from vm.plugin_build import build_plugin, require_plugin

#: Frames of a burst: 8 polls of 64, fewer than the ring has descriptors.
BURST = 512
#: Two, as with one Linux takes LOCK prefixes out of its code at boot. NAPI stays on the first.
CPUS = 2
NIC = NicPlan(queues=1, rx_ring=1024, tx_ring=1024)
_VM = VmPlan(memory_mib=256, cpus=CPUS)
#: The bound ends the wait, not the time: 65 ms are the register's most.
_MODERATION = f"rx-usecs 65535 rx-frames {BURST}"
_DUMP = "/sys/module/dmabed_nic/parameters/count_dump"
_BURST_S = 60.0
_POLL_S = 0.02
_BUSY_TRIES = 100
_STATE = ("rx_packets", "tx_packets", "arms", "hw_interrupts")


@dataclass(frozen=True, slots=True)
class Sample:
    """What some bursts cost: the plugin's dumps, the packets, the device's own counts."""

    dumps: tuple[Dump, ...]
    packets: int
    device: dict[str, Any]


class CountingGuest:
    """A guest whose driver has marks; see :func:`counting_guest`."""

    def __init__(self, rig: Rig, counts: Path) -> None:
        self.rig = rig
        self._counts = counts
        self._dumps = 0
        self._fate: Fate = "deliver"
        self._arms_ahead = 0

    async def begin(self) -> None:
        """Loads driver and sink."""
        run = self.rig.guest.run
        await run("echo pfifo_fast > /proc/sys/net/core/default_qdisc")
        await self.rig.load_sink(verify=False)
        await self.rig.load("page_pool", NIC)

    async def symbols(self) -> SymbolTable:
        """Of the kernel and the modules that are loaded now."""
        text = (await self.rig.guest.run("cat /proc/kallsyms")).stdout
        # Beside the raw counts, which mean nothing without it: addresses are random.
        self._counts.with_name("kallsyms").write_text(text)
        return parse_kallsyms(text)

    async def choose(self, mode: Mode, fate: Fate) -> None:
        """Switches the driver to ``mode``, and all packets to ``fate``."""
        interface = self.rig.interface
        attributes = f"/sys/class/net/{interface}/dmabed"
        await self.rig.guest.run(
            f"ip link set {interface} down && echo {mode} > {attributes}/rx_mode"
            f" && echo {int(fate == 'drop')} > {attributes}/rx_discard"
            f" && echo {int(fate == 'forward')} > /sys/module/dmabed_sink/parameters/echo"
            f" && ip link set {interface} up && ethtool -C {interface} {_MODERATION}"
            # Nothing may be dropped or put off on its way out.
            f" && echo 10000 > /sys/class/net/{interface}/tx_queue_len"
            f" && echo 100000000 >"
            f" /sys/class/net/{interface}/queues/tx-0/byte_queue_limits/limit_min"
        )
        await self.rig.await_carrier(interface)
        self._fate = fate
        state = await self._state()
        self._arms_ahead = state["arms"] - state["hw_interrupts"]

    async def measure(self, bursts: int, warmup: int = 2, frame: int = 60) -> Sample:
        """Counts ``bursts`` bursts of frames of ``frame`` bytes (without FCS) after a warm-up."""
        for _ in range(warmup):
            await self._burst(frame)
        await self._dump()
        self.rig.devices.call("window_begin", "nic")
        before = (await self._state())["rx_packets"]
        for _ in range(bursts):
            await self._burst(frame)
        packets = (await self._state())["rx_packets"] - before
        device = self.rig.devices.call("window_end", "nic")
        return Sample((await self._dump(),), packets, device)

    async def _burst(self, frame: int) -> None:
        """Returns when all packets are done with and the driver waits for an interrupt again."""
        names = ["rx_packets", "tx_packets"] if self._fate == "forward" else ["rx_packets"]
        state = await self._state()
        targets = {name: state[name] + BURST for name in names}
        self.rig.devices.call("send", "nic", Traffic(frame, frame, count=BURST))
        deadline = time.monotonic() + _BURST_S
        while not self._is_quiet(state := await self._state(), targets):
            if time.monotonic() > deadline:
                raise RigError(f"not done in {_BURST_S} s: {state}, to be {targets}")
            await asyncio.sleep(_POLL_S)
        self.rig.devices.call("unplug", "nic")

    def _is_quiet(self, state: dict[str, int], targets: dict[str, int]) -> bool:
        armed = state["arms"] - state["hw_interrupts"] >= self._arms_ahead  # a watchdog arms too
        return armed and all(state[name] >= target for name, target in targets.items())

    async def _state(self) -> dict[str, int]:
        """Counters of the driver's queue pair."""
        command = f"ethtool -S {self.rig.interface} | grep -E ' q0_({'|'.join(_STATE)}):'"
        said = (await self.rig.guest.run(command)).stdout
        lines = (line.partition(":") for line in said.split("\n") if line)
        return {name.strip().removeprefix("q0_"): int(value) for name, _, value in lines}

    async def _dump(self) -> Dump:
        """What was counted since the last dump."""
        for _ in range(_BUSY_TRIES):
            await self.rig.guest.run(f"echo > {_DUMP}")
            dumps = parse_dumps(self._counts.read_text())
            if len(dumps) > self._dumps:
                break
            await asyncio.sleep(_POLL_S)
        if len(dumps) != self._dumps + 1:
            raise RigError(f"{len(dumps)} dumps in {self._counts}, not {self._dumps + 1}")
        self._dumps = len(dumps)
        return dumps[-1]


@contextlib.asynccontextmanager
async def counting_guest(
    artifacts: Artifacts, iommu: Iommu, folder: Path, planted: bool = False
) -> AsyncIterator[CountingGuest]:
    """Boots a guest with the plugin and loads the driver with marks.

    planted: the driver executes one atomic instruction more per packet.

    Raises:
        SetupError: this QEMU cannot run the plugin.
    """
    plugin = build_plugin(artifacts.cache, artifacts.toolchain)
    require_plugin(artifacts.qemu, plugin)
    emulated = replace(artifacts, acceleration=Acceleration("tcg", "counting needs emulation"))
    folder.mkdir(parents=True, exist_ok=True)
    counts = (folder / "counts").absolute()
    opened = open_rig(
        emulated,
        iommu,
        folder,
        _VM,
        NIC,
        driver=counting_driver(folder, planted),
        qemu_args=["-plugin", f"file={plugin},out={counts}"],
    )
    async with opened as rig:
        guest = CountingGuest(rig, counts)
        await guest.begin()
        yield guest
