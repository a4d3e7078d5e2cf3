# SPDX-License-Identifier: MIT
"""A soak in one guest: plays legs of a plan, with everything judged that can be."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from emulator.ledger.facts import PayloadChecked
from testbed.errors import RigError
from testbed.guest_facts import Retained, timed
from testbed.laboratory import Traffic
from testbed.rig import Rig
from testbed.scenario import RX_MODES
from testbed.soak.plan import Kind, Leg, Operation
from vm.agent_client import OnOutput, Result
from vm.splats import Splat, is_kernels_own
from vm.waiting import Looks

HOLDER = "/tmp/holder"
MTU = 9000
#: A socket that began in a leg is read so many legs later.
READ_AFTER = 3
_BURST_S = 300.0
_PAUSE_S = 0.02
#: A device that does nothing for so long does nothing: a guest's flush queue waits for 10 ms.
_SETTLE_S = 0.15
#: Frames of a traced life: before and after its rings are resized.
_TRACED = (1500, 500)
#: Of the first of them the guest's sink keeps so many, while the rest go round.
_KEPT = 40
#: Beside whatever the first NIC does, the second one receives this many frames a second.
_OTHER_PPS = 20
#: What the kernel says of a pool whose pages somebody has for more than a minute: here a socket.
_HELD_FOR_LONG = re.compile(r"stalled pool|page_pool_release_retry")


def _expected(splat: Splat) -> bool:
    """That a socket holds pages for long is no trouble of anybody's."""
    return is_kernels_own(splat) or _HELD_FOR_LONG.search(splat.title) is not None


@dataclass(slots=True)
class Tally:
    """What was done and seen; ``late``: frames that were looked at a second time."""

    legs: int = 0
    operations: Counter[Kind] = field(default_factory=Counter)
    late: int = 0
    damaged: int = 0
    longest_ns: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Socket:
    """A holder in the guest: its file, its end, the leg that it began in."""

    file: str
    ended: asyncio.Task[Result]
    since: int


class SoakGuest:
    """A rig with two NICs, the second of which only receives; ``seed``: of the frames."""

    def __init__(self, rig: Rig, seed: int, mapped: bool) -> None:
        self.rig, self.tally = rig, Tally()
        self._seed, self._mapped = seed, mapped
        self._sockets: list[_Socket] = []
        self._opened = 0
        self._mode: str = RX_MODES[0]
        self._held_over = False
        self._retained: Retained | None = None
        self._splats = 0

    async def start(self) -> None:
        """Driver and sink are loaded, both NICs are up, the second one receives."""
        await self.rig.load_sink(verify=True)
        await self._load(RX_MODES[0])
        await self._other_up()
        self._send("other", Traffic(60, 1514, rate_pps=_OTHER_PPS, seed=self._seed))

    async def play(self, leg: Leg) -> None:
        """One leg; the ledger is asked, and told what the guest knows, at its end."""
        self._seed += 1
        self.tally.legs += 1
        await self.rig.sink.echo(leg.echo)
        for operation in leg.during:
            self._flow(leg)
            await self._do(operation)
            self.tally.operations[operation.kind] += 1
        self._unplug()
        for burst in range(leg.bursts):
            count = leg.count // leg.bursts + (leg.count % leg.bursts if not burst else 0)
            self._send("nic", self._traffic(leg, count=count))
            await self.rig.all_sent(_BURST_S)
            await asyncio.sleep(_PAUSE_S)
        await self._quiet()
        await self._look()

    async def stop(self) -> None:
        """Sockets are read, the driver is removed; everything must be given back.

        Raises:
            RigError: it was not.
        """
        await self._read_sockets(0)
        self.rig.devices.call("unplug", "other")
        await self._unload()
        exposed = await self.rig.exposed(wait_s=3)
        if exposed.live or exposed.posted:
            raise RigError(f"the driver is gone and left {exposed}")
        await self._tell_complaints()

    async def abandon(self) -> None:
        """The guest is about to be ended."""
        for socket in self._sockets:
            socket.ended.cancel()
        await asyncio.gather(*(s.ended for s in self._sockets), return_exceptions=True)

    # ------------------------------------------------------------------ traffic
    def _traffic(self, leg: Leg, count: int | None = None, pps: int | None = None) -> Traffic:
        return Traffic(leg.low, leg.high, count, pps, leg.flows, self._seed)

    def _flow(self, leg: Leg) -> None:
        """Frames come without end, while something else happens."""
        self._send("nic", self._traffic(leg, pps=leg.pps))

    def _send(self, name: str, traffic: Traffic) -> None:
        if name == "nic":
            self._unplug()
        self.rig.devices.call("send", name, traffic)

    def _unplug(self) -> None:
        """Whatever the guest sent since the last call was right, or is counted."""
        call = self.rig.devices.call
        if call("plugged", "nic"):
            self.tally.damaged += call("received", "nic").corrupt
            call("unplug", "nic")

    async def _quiet(self) -> None:
        """Returns when the first NIC has neither maps nor packets for a while.

        A guest that echoes has a ring of frames to map, and to unmap, after the last has come.

        Raises:
            RigError: there is no end to it.
        """
        before = None
        async for _ in Looks(_BURST_S, _SETTLE_S):
            now = self.rig.devices.call("activity", "nic")
            if now == before:
                return
            before = now
        raise RigError(f"the NIC is not quiet {_BURST_S} s after its last frame")

    # ------------------------------------------------------------------ operations
    async def _do(self, operation: Operation) -> None:
        await self._handler(operation.kind)(operation)
        await self.rig.await_carrier(self.rig.interface)

    def _handler(self, kind: Kind) -> Callable[[Operation], Awaitable[None]]:
        return {
            Kind.FLAP: self._flap,
            Kind.RINGS: self._rings,
            Kind.CHANNELS: self._channels,
            Kind.MODE: self._switch,
            Kind.RELOAD: self._reload,
            Kind.SEND: self._send_frames,
            Kind.SOCKET: self._open_socket,
            Kind.RETAIN: self._retain,
            Kind.TRACE: self._trace,
        }[kind]

    async def _flap(self, operation: Operation) -> None:
        call = self.rig.devices.call
        call("link", "nic", False)
        await asyncio.sleep(operation.numbers[0] / 1000)
        call("link", "nic", True)

    async def _rings(self, operation: Operation) -> None:
        rx, tx = operation.numbers
        await self._ethtool(f"-G {self.rig.interface} rx {rx} tx {tx}")

    async def _channels(self, operation: Operation) -> None:
        await self._ethtool(f"-L {self.rig.interface} combined {operation.numbers[0]}")

    async def _ethtool(self, arguments: str) -> None:
        """Nothing to change is no error, though ethtool calls it one (80)."""
        await self._timed("resize", f"ethtool {arguments} || [ $? = 80 ]")
        self._held_over = bool(self._sockets)

    async def _switch(self, operation: Operation) -> None:
        interface = self.rig.interface
        await self._timed("ifdown", f"ip link set {interface} down")
        self._mode = operation.values[0]
        self.rig.expect(self._mode)
        await self._run(f"echo {self._mode} > /sys/class/net/{interface}/dmabed/rx_mode")
        await self._run(f"ip link set {interface} up")
        self._held_over = bool(self._sockets)

    async def _reload(self, operation: Operation) -> None:
        await self._unload()
        await self._load(operation.values[0])
        await self._other_up()

    async def _unload(self) -> None:
        await self._timed("ifdown", f"ip link set {self.rig.interface} down")
        await self._timed("remove", "rmmod dmabed_nic")
        self._held_over = bool(self._sockets)

    async def _load(self, mode: str) -> None:
        self._mode = mode
        await self.rig.load(mode)
        await self._run(f"ip link set {self.rig.interface} mtu {MTU}")

    async def _other_up(self) -> None:
        interface = (await self.rig.interfaces())[1]
        await self._run(f"ip link set {interface} up")

    async def _send_frames(self, operation: Operation) -> None:
        count, size = operation.numbers
        await self.rig.sink.send(self.rig.interface, count, size, 3, fragmented=count % 2 == 1)

    async def _open_socket(self, operation: Operation) -> None:
        """Returns when the socket takes frames."""
        self._opened += 1
        file, ready = f"/tmp/read{self._opened}", asyncio.Event()
        said: OnOutput = lambda _kind, _data: ready.set()  # noqa: E731
        command = f"{HOLDER} {self.rig.interface} {operation.numbers[0]} {file}"
        ended = asyncio.create_task(self.rig.guest.run(command, timeout_s=None, on_output=said))
        self._sockets.append(_Socket(file, ended, self.tally.legs))
        opened = asyncio.create_task(ready.wait())
        await asyncio.wait([ended, opened], return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if ended.done():
            ended.result()

    async def _read_sockets(self, legs: int) -> None:
        """Reads those that have held their frames for so many legs."""
        for socket in [s for s in self._sockets if self.tally.legs - s.since >= legs]:
            await self._run(f"touch {socket.file}")
            words = (await socket.ended).stdout.split()[-4:]
            frames, changed = int(words[1]), int(words[3])
            self._tell_late(PayloadChecked(frames, changed, "read late by a packet socket"))
            self._sockets.remove(socket)
        self._held_over &= bool(self._sockets)

    async def _retain(self, operation: Operation) -> None:
        if self._retained is None:
            self._retained = Retained(self.rig, operation.numbers[0])
            await self._retained.begin()

    async def _trace(self, operation: Operation) -> None:
        """A whole life of the driver, of which the guest's own tracer sees all.

        Of pools that are older than the trace nothing may be out, and the second NIC stays down:
        the guest's events of pages do not say whose they are.
        """
        await self._read_sockets(0)
        await self._let_go()
        self._unplug()
        await self._unload()
        trace = await self.rig.trace()
        await self._load(operation.values[0])
        await self._traced_flow(_TRACED[0])
        await self._ethtool(f"-G {self.rig.interface} rx 256 tx 256")
        await self._traced_flow(_TRACED[1])
        await self._quiet()
        await trace.end()
        await self._other_up()

    async def _traced_flow(self, frames: int) -> None:
        """Frames, of which the sink keeps the first while the others go round.

        It lets them go before anything else happens: a pool that goes would be counted with pages
        that it has unmapped.
        """
        kept = Retained(self.rig, _KEPT)
        await kept.begin()
        self._send("nic", Traffic(60, 1514, frames, flows=4, seed=self._seed))
        await self.rig.all_sent(_BURST_S)
        self.tally.late += (await kept.end()).frames

    # ------------------------------------------------------------------ what the guest knows
    async def _look(self) -> None:
        """At a quiet moment."""
        await self._let_go()
        await self._read_sockets(READ_AFTER)
        self.tally.damaged += await self.rig.sink.damaged()
        await self.rig.sink.reset()
        await self._count_pool()
        await self._tell_complaints()
        self._unplug()
        self.rig.devices.call("verdict")  # some rules look at the clock

    async def _let_go(self) -> None:
        if self._retained is not None:
            fact = await self._retained.end()
            self.tally.late += fact.frames
            self._retained = None

    async def _count_pool(self) -> None:
        """O-8: pages that the pools have out, those of a socket among them, are those mapped.

        Not where a socket has pages of a pool that is gone, which older kernels keep mapped; and
        without an IOMMU there are no maps to compare with.
        """
        if self._mode == "page_pool" and self._mapped and not self._held_over:
            await self.rig.count_pools(sink_only=False)

    async def _tell_complaints(self) -> None:
        """O-20, of what is new since the last look."""
        since, self._splats = self._splats, len(self.rig.guest.console.splats)
        await self.rig.check_guest(since, harmless=_expected)

    def _tell_late(self, fact: PayloadChecked) -> None:
        self.tally.late += fact.frames
        self.rig.tell(fact)

    async def _timed(self, what: str, command: str) -> None:
        took_ns = await timed(self.rig, what, command)
        self.tally.longest_ns[what] = max(took_ns, self.tally.longest_ns.get(what, 0))

    async def _run(self, command: str) -> Result:
        return await self.rig.guest.run(command)
