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
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.count.build import counting_driver
from testbed.count.dump import Dump, DumpReader
from testbed.count.results import Fate, Mode
from testbed.count.symbols import SymbolTable, parse_kallsyms
from testbed.errors import RigError
from testbed.laboratory import Served, Traffic
from testbed.rig import Rig, open_rig
from testbed.scenario import Iommu, NicPlan, VmPlan
from vm.accel import Acceleration
from vm.artifacts import Artifacts
from vm.plugin_build import build_plugin, require_plugin
from vm.waiting import Looks

#: Frames of a burst: 8 polls of 64, fewer than the ring has descriptors.
BURST = 512
#: Bursts that are thrown away, before those that count.
WARM_UP = 2
#: Two, as with one Linux takes LOCK prefixes out of its code at boot. NAPI stays on the first.
CPUS = 2
NIC = NicPlan(queues=1, rx_ring=1024, tx_ring=1024)
_VM = VmPlan(memory_mib=256, cpus=CPUS)
#: The bound ends the wait, not the time: 65 ms are the register's most.
_MODERATION = f"rx-usecs 65535 rx-frames {BURST}"
_DUMP = "/sys/module/dmabed_nic/parameters/count_dump"
_COMPACT = "/proc/sys/vm/compact_memory"
_BURST_S = 60.0
_POLL_S = 0.005
_BUSY_TRIES = 400


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
        self._dumps = DumpReader(counts)
        self._symbols_file = counts.with_name("kallsyms")
        self._up: tuple[Mode, bool] | None = None
        self._fate: Fate = "deliver"

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
        self._symbols_file.write_text(text)
        return parse_kallsyms(text)

    async def choose(self, mode: Mode, fate: Fate) -> None:
        """Switches the driver to ``mode``, and all packets to ``fate``."""
        if self._up != (mode, fate == "drop"):
            await self._bring_up(mode, fate == "drop")
        await self.rig.sink.echo(fate == "forward")
        self._fate = fate

    async def _bring_up(self, mode: Mode, discard: bool) -> None:
        """Rings are built for a mode, so the interface goes down and up again.

        In between memory is put together again: what a block or a bulk costs depends on how it was
        split by what ran before.
        """
        interface = self.rig.interface
        folder = f"/sys/class/net/{interface}"
        await self.rig.guest.run(
            f"ip link set {interface} down && {{ echo 1 > {_COMPACT} || true; }}"
            f" && echo {mode} > {folder}/dmabed/rx_mode"
            f" && echo {int(discard)} > {folder}/dmabed/rx_discard"
            f" && ip link set {interface} up && ethtool -C {interface} {_MODERATION}"
            # Nothing may be dropped or put off on its way out.
            f" && echo 10000 > {folder}/tx_queue_len"
            f" && echo 100000000 > {folder}/queues/tx-0/byte_queue_limits/limit_min"
        )
        await self.rig.await_carrier(interface)
        self._up = (mode, discard)

    async def measure(self, bursts: int, frame: int = 60) -> Sample:
        """Counts ``bursts`` bursts of frames of ``frame`` bytes (without FCS) after a warm-up.

        Packets on their way out hold pages: it takes longer until there are enough of them.
        """
        for _ in range(WARM_UP * (3 if self._fate == "forward" else 1)):
            await self._burst(frame)
        await self._dump()
        self.rig.devices.call("window_begin", "nic")
        for _ in range(bursts):
            await self._burst(frame)
        device = self.rig.devices.call("window_end", "nic")
        return Sample((await self._dump(),), bursts * BURST, device)

    async def _burst(self, frame: int) -> None:
        """Returns when all packets are done with and the driver waits for an interrupt again."""
        before = self._served()
        sent = BURST if self._fate == "forward" else 0
        self.rig.devices.call("send", "nic", Traffic(frame, frame, count=BURST))
        async for _ in Looks(_BURST_S, _POLL_S):
            if self._done(served := self._served(), before, sent):
                break
        else:
            raise RigError(f"not done in {_BURST_S} s: {served}; before the burst {before}")
        self.rig.devices.call("unplug", "nic")

    @staticmethod
    def _done(now: Served, before: Served, sent: int) -> bool:
        """Whether all were received, ``sent`` of them sent on, and none is still looked at."""
        received = now.received - before.received == BURST
        return now.quiet and received and now.transmitted - before.transmitted >= sent

    def _served(self) -> Served:
        found: Served = self.rig.devices.call("served", "nic")
        return found

    async def _dump(self) -> Dump:
        """What was counted since the last dump."""
        for _ in range(_BUSY_TRIES):
            await self.rig.guest.run(f"echo > {_DUMP}")
            found = self._dumps.read()
            if found:
                break
            await asyncio.sleep(_POLL_S)
        if len(found) != 1:
            raise RigError(f"{len(found)} dumps in {self._dumps.path} where 1 was asked for")
        return found[0]


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
