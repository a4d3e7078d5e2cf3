# SPDX-License-Identifier: MIT
"""The guest's own tracer: which events, on which clock, and what its lines say.

Events of the DMA API, of page pools and of the IOMMU's page tables come from the kernel's
tracepoints (6.12 or newer has all of them); where an skb head is built comes from a probe on
napi_build_skb(). All of it is switched on and read through tracefs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from emulator.ledger.join import Traced, TraceEvent
from vm.errors import VmError
from vm.guest import Guest

TRACEFS = "/sys/kernel/tracing"
EVENTS = (
    "dma/dma_map_page", "dma/dma_unmap_page", "dma/dma_alloc", "dma/dma_free",
    "iommu/map", "page_pool/page_pool_state_hold", "page_pool/page_pool_state_release",
)  # fmt: skip
PROBE = "p:dmabed/head napi_build_skb data=$arg1"
#: Physical addresses below this are offsets in guest memory on the machine we boot; the kernel's
#: linear map begins at a multiple of it, so the low bits of a linear address are the physical one.
PHYSICAL_MAX = 1 << 30

_LINE = re.compile(r"\s(\d+)\.(\d{6}): (\w+): (.*)")
_DMA = re.compile(r"(\S+) dir=\w+ dma_addr=([0-9a-f]+) size=(\d+)(?: phys_addr=([0-9a-f]+))?")
_TABLE = re.compile(r"iova=0x([0-9a-f]+) .* size=(\d+)")
_KINDS = {
    "dma_map_page": Traced.MAPPED,
    "dma_unmap_page": Traced.UNMAPPED,
    "dma_alloc": Traced.ALLOCATED,
    "dma_free": Traced.FREEING,
}


@dataclass(frozen=True, slots=True)
class Trace:
    """Events in order, each with its device (its PCI address; None: the event names none)."""

    events: tuple[tuple[str | None, TraceEvent], ...]
    lost: int

    def of(self, device: str) -> list[TraceEvent]:
        """Those of ``device`` and those of none."""
        return [event for name, event in self.events if name in (None, device)]


class GuestTracer:
    """The tracer of ``guest``; ``buffer_kib`` for each CPU."""

    def __init__(self, guest: Guest, buffer_kib: int = 16384) -> None:
        self._guest, self._buffer_kib = guest, buffer_kib

    async def begin(self) -> None:
        """Traces from now on, into an empty buffer.

        Raises:
            VmError: the kernel has none of these tracepoints.
        """
        events = " ".join(EVENTS)
        script = (
            f"cd {TRACEFS} && echo 0 >tracing_on && echo mono >trace_clock"
            f" && echo {self._buffer_kib} >buffer_size_kb && echo >trace"
            f" && (grep -q dmabed/head kprobe_events || echo '{PROBE}' >kprobe_events)"
            f" && for e in {events} dmabed/head; do echo 1 >events/$e/enable || exit 1; done"
            " && echo 1 >tracing_on"
        )
        done = await self._guest.run(script, check=False)
        if done.status:
            raise VmError(
                f"the guest's kernel cannot trace its DMA API: {done.stderr.strip()}; "
                "it needs Linux 6.12 or newer with CONFIG_KPROBE_EVENTS"
            )

    async def end(self) -> Trace:
        """Stops, and reads what there is."""
        run = self._guest.run
        await run(f"cd {TRACEFS} && echo 0 >tracing_on && echo 0 >events/enable")
        lost = await run(f"cat {TRACEFS}/per_cpu/cpu*/stats")
        text = await run(f"cat {TRACEFS}/trace", timeout_s=120)
        await run(f"cd {TRACEFS} && echo >trace && echo 64 >buffer_size_kb")
        dropped = re.findall(r"^(?:overrun|dropped events): (\d+)", lost.stdout, re.M)
        return Trace(tuple(parse(text.stdout)), sum(map(int, dropped)))


def parse(text: str) -> Iterator[tuple[str | None, TraceEvent]]:
    """The events in the text of tracefs' ``trace``, in order; lines of others are passed over."""
    for line in text.splitlines():
        match = _LINE.search(line)
        if match is not None:
            seconds, micros, name, rest = match.groups()
            time_ns = int(seconds) * 1_000_000_000 + int(micros) * 1000
            yield from _event(time_ns, name, rest)


def _event(time_ns: int, name: str, rest: str) -> Iterator[tuple[str | None, TraceEvent]]:
    if name in _KINDS and (found := _DMA.match(rest)):
        device, iova, size, phys = found.groups()
        place = int(iova, 16), int(size), int(phys or "0", 16)
        yield device, TraceEvent(time_ns, _KINDS[name], *place)
    elif name == "map" and (found := _TABLE.search(rest)):
        yield None, TraceEvent(time_ns, Traced.TABLE, int(found[1], 16), int(found[2]))
    elif name == "head" and (found := re.search(r"data=0x([0-9a-f]+)", rest)):
        yield None, TraceEvent(time_ns, Traced.HEAD, int(found[1], 16) % PHYSICAL_MAX)
    elif name.startswith("page_pool_state_") and (found := re.search(r"pfn=0x([0-9a-f]+)", rest)):
        kind = Traced.HOLD if name.endswith("hold") else Traced.RELEASE
        yield None, TraceEvent(time_ns, kind, int(found[1], 16))
