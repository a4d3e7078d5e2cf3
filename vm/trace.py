# SPDX-License-Identifier: MIT
"""The guest's trace, streamed while it runs: events with exact times, and every one that is lost.

A tracing instance of its own (so that nobody else's tracing is disturbed) records on the monotonic
clock; a helper in the guest sends its ring buffers' pages over a port of their own whenever it is
told to (`vm/agent/trace.c`). So the store is the guest's ring buffers, of a size given here, and
the host holds what lies between two ticks. What the buffers overwrite is counted, never silent.
"""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from emulator.iommu.mapping import PAGE_SHIFT
from emulator.ledger.guest_clock import Tick
from emulator.ledger.traced import Traced, TraceEvent
from vm.errors import ProtocolError, TraceError
from vm.guest import Guest
from vm.protocol import Decoder, Frame, FrameType, encode
from vm.ring_page import HEADER_PAGE, read_page
from vm.trace_format import OF_THE_SINK, PROBE, PROBE_TEXT, SHAPES, Told, TraceFormat

TRACEFS = "/sys/kernel/tracing"
INSTANCE = f"{TRACEFS}/instances/dmabed"
BUFFER_KIB = 8192
_ANSWER_S = 30.0
_NOW = struct.Struct("<Q")
_BEGIN = (
    f"cd {TRACEFS} && (grep -q {PROBE} kprobe_events || echo '{PROBE_TEXT}' >kprobe_events)"
    f" && mkdir -p {INSTANCE} && cd {INSTANCE} && echo 0 >tracing_on && echo mono >trace_clock"
    " && echo {kib} >buffer_size_kb && for e in {events}; do"
    ' [ ! -e events/$e/enable ] || {{ echo 1 >events/$e/enable && echo "== $e"'
    " && cat events/$e/format || exit 1; }}; done && cat {tracefs}/events/header_page"
)
_END = (
    f"cd {INSTANCE} && cat per_cpu/cpu*/stats; cd {TRACEFS}; echo 0 >{INSTANCE}/events/enable;"
    f" rmdir {INSTANCE}"
)


class TraceBatch(NamedTuple):
    """What the guest traced between two ticks, in order, each event with the device it names.

    lost: events that a ring buffer overwrote meanwhile. tick: the guest's clock at the end.
    """

    events: list[Told]
    lost: int
    tick: Tick

    def of(self, device: str) -> list[TraceEvent]:
        """Those of ``device`` (its PCI address) and those of none."""
        return [event for name, event in self.events if name in (None, device)]


class PoolOwners:
    """Whose a page_pool is: its tracepoints name no device, but the page was mapped just before.

    A pool that maps nothing is nobody's: its device is named "".
    """

    def __init__(self) -> None:
        self._owner: dict[int, str] = {}
        self._mapped: dict[int, tuple[int, str]] = {}

    def named(self, cpu: int, told: Told) -> Told:
        """``told``, with the pool's device if it is of a pool; in the order of ``cpu``."""
        name, event = told
        if event.kind is Traced.MAPPED and name is not None:
            self._mapped[cpu] = event.phys >> PAGE_SHIFT, name
        if event.kind not in (Traced.HOLD, Traced.RELEASE):
            return told
        frame, device = self._mapped.get(cpu, (-1, ""))
        if event.kind is Traced.HOLD and frame == event.iova:
            self._owner[event.phys] = device
        return self._owner.get(event.phys, ""), event


class TraceAssembler:
    """Makes batches of the helper's frames, without I/O; holds what one tick brought."""

    def __init__(self, formats: TraceFormat) -> None:
        self._formats = formats
        self._told: list[Told] = []
        self._early: list[Told] = []
        self._lost = 0
        self._pools = PoolOwners()
        self.read = self.lost = 0

    def page(self, cpu: int, page: bytes) -> None:
        """One page of ``cpu``, its next.

        Raises:
            TraceError: it is damaged.
        """
        events, lost = read_page(page)
        self.read += len(events)
        self._lost += lost
        told = filter(None, map(self._formats.read, events))
        self._told += [self._pools.named(cpu, one) for one in told]

    def drained(self, tick: Tick) -> TraceBatch:
        """Everything up to the tick is here: its batch. What is younger waits for the next."""
        told = [*self._early, *self._told]
        told.sort(key=lambda one: one[1].time_ns)
        self._early = [one for one in told if one[1].time_ns > tick.guest_ns]
        self._told = []
        lost, self._lost = self._lost, 0
        self.lost += lost
        return TraceBatch(told[: len(told) - len(self._early)], lost, tick)


class GuestTracer:
    """The tracer of ``guest``; ``buffer_kib`` for each CPU."""

    def __init__(self, guest: Guest, buffer_kib: int = BUFFER_KIB) -> None:
        self._guest, self._buffer_kib = guest, buffer_kib
        self._frames = _Frames(guest)
        self._helper: asyncio.Task[object] | None = None
        self._assembler: TraceAssembler | None = None
        self._ticks = 0
        #: Whether the guest's sink tells which frames it keeps: its module was there at the begin.
        self.sees_stack = False

    async def begin(self) -> None:
        """Sets up the tracer and its helper; nothing is recorded before :meth:`start`.

        Raises:
            TraceError: the kernel lacks a tracepoint, or its pages are of a kind we cannot read.
        """
        events = " ".join(SHAPES)
        script = _BEGIN.format(kib=self._buffer_kib, events=events, tracefs=TRACEFS)
        done = await self._guest.run(script, check=False)
        if done.status:
            raise TraceError(
                f"the guest's kernel cannot trace its DMA API: {done.stderr.strip()}; it needs "
                "Linux 6.12 or newer with CONFIG_KPROBE_EVENTS"
            )
        formats = _formats(done.stdout)
        self._assembler = TraceAssembler(TraceFormat(formats))
        self.sees_stack = formats.keys() >= OF_THE_SINK
        run = self._guest.run(f"/init trace {INSTANCE}", timeout_s=None)
        self._helper = asyncio.create_task(run)

    async def start(self) -> None:
        """Records from now on."""
        await self._guest.run(f"echo 1 >{INSTANCE}/tracing_on")

    async def tick(self) -> TraceBatch:
        """All that was traced since the last tick.

        Raises:
            TraceError: the helper is gone or silent, or sends what is no trace.
        """
        self._ticks += 1
        try:
            return await asyncio.wait_for(self._tick(self._ticks), _ANSWER_S)
        except TimeoutError:
            raise TraceError(f"the guest's trace helper was silent for {_ANSWER_S} s") from None
        except ProtocolError as error:
            raise TraceError(f"the guest's trace helper: {error}") from error

    async def end(self) -> TraceBatch:
        """Stops; the last batch, and in it events that no page told to be lost.

        Raises:
            TraceError: as :meth:`tick`.
        """
        await self._guest.run(f"echo 0 >{INSTANCE}/tracing_on")
        last = await self.tick()
        self._frames.send(Frame(FrameType.END, 0))
        assert self._helper is not None and self._assembler is not None
        await self._helper
        stats = (await self._guest.run(_END)).stdout
        counted = re.findall(r"^(?:overrun|commit overrun|dropped events): (\d+)", stats, re.M)
        hidden = max(sum(map(int, counted)) - self._assembler.lost, 0)
        return last._replace(lost=last.lost + hidden)

    def abandon(self) -> None:
        """The guest is about to be ended, or is lost."""
        if self._helper is not None:
            self._helper.cancel()
            self._helper.add_done_callback(lambda helper: helper.cancelled() or helper.exception())

    async def _tick(self, number: int) -> TraceBatch:
        assert self._assembler is not None
        sent_ns, guest_ns, received_ns = time.monotonic_ns(), 0, 0
        self._frames.send(Frame(FrameType.TICK, number))
        while True:
            frame = await self._frames.receive()
            if frame.type is FrameType.EVENTS:
                self._assembler.page(frame.id, frame.payload)
            elif frame.type is FrameType.NOW and frame.id == number:
                received_ns = time.monotonic_ns()
                guest_ns = _NOW.unpack(frame.payload)[0]
            elif frame.type is FrameType.DRAINED and frame.id == number:
                return self._assembler.drained(Tick(sent_ns, guest_ns, received_ns))


class _Frames:
    """Frames on the guest's trace port."""

    def __init__(self, guest: Guest) -> None:
        self._reader, self._writer = guest.trace_port
        self._decoder = Decoder()
        self._waiting: Iterator[Frame] = iter(())

    def send(self, frame: Frame) -> None:
        self._writer.write(encode(frame))

    async def receive(self) -> Frame:
        while (frame := next(self._waiting, None)) is None:
            data = await self._reader.read(1 << 18)
            if not data:
                raise TraceError("the guest is gone, and with it its trace")
            self._waiting = iter(self._decoder.feed(data))
        return frame


def _formats(said: str) -> dict[str, str]:
    """The format files in what the script printed; what follows them is the page's own.

    Raises:
        TraceError: pages of another layout.
    """
    text, header, page = said.partition("\tfield: u64 timestamp")
    words = re.sub(r"\s+", " ", header + page)
    if not all(field in words for field in HEADER_PAGE):
        raise TraceError(f"this kernel's trace pages are not as we read them: {words.strip()}")
    parts = [part.partition("\n") for part in text.split("== ")[1:]]
    return {name: body for name, _, body in parts}
