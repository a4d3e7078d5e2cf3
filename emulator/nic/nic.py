# SPDX-License-Identifier: MIT
"""The multi-queue NIC, without I/O: register accesses in; DMA, interrupts and frames out.

Whoever owns it calls :meth:`Nic.step` after any other call, and again when the last step says so.
All DMA and every use of the wire happen within a step; a register write may raise an interrupt.
"""

from __future__ import annotations

from emulator.frames import FrameBatch
from emulator.nic.config import FRAME_CAP, RING_LOG2_MIN, NicConfig
from emulator.nic.events import Events, IrqGate
from emulator.nic.mmio import GLOBAL, Reader, RegisterFile, Writer
from emulator.nic.pair import QueuePair
from emulator.nic.registers import (
    DMABED_CTRL_ENABLE,
    DMABED_CTRL_RESET,
    DMABED_EVENT_LINK,
    DMABED_RX_FILTER_ALLMULTI,
    DMABED_RX_FILTER_PROMISC,
    DMABED_STATUS_LINK_UP,
    DMABED_STATUS_READY,
    MAP,
)
from emulator.nic.steering import Filter, by_queue, steer
from emulator.nic.wire.base import Wire
from emulator.ports import DmaPort, IrqPort, Observer

MAC_REGISTERS = frozenset({"MAC_LO", "MAC_HI"})


class Nic:
    """A NIC built as ``config`` says, attached to a host by ``dma`` and ``irq`` and to ``wire``.

    It starts as after power-on, with the link down and bus mastering off.
    """

    def __init__(
        self, config: NicConfig, dma: DmaPort, irq: IrqPort, wire: Wire, observer: Observer
    ) -> None:
        self.config, self._wire, self._observer = config, wire, observer
        self._gate = IrqGate(irq)
        self._events = Events(self._gate)
        self.pairs = tuple(
            QueuePair(queue, config, dma, observer, self._events, self._gate, wire)
            for queue in range(config.queues)
        )
        self._link_up = self._bus_master = False
        self._registers = RegisterFile(
            config.queues, self._readers(), self._writers(), self._locked
        )
        self._restore_mac()

    # ------------------------------------------------------------ what the host does

    def mmio_read(self, offset: int, size: int) -> int:
        """``size`` bytes of BAR0 at ``offset``, as a little-endian number; 0 if illegal."""
        return self._registers.read(offset, size)

    def mmio_write(self, offset: int, value: int, size: int, now_ns: int) -> None:
        """Writes ``size`` bytes of BAR0 at ``offset``; does nothing if illegal."""
        self._registers.write(offset, value, size, now_ns)

    def bus_master(self, on: bool, now_ns: int) -> None:
        """PCI command register: while off there is no DMA and no interrupt, and nothing is lost.

        Rings freeze as they are, frames stay on the wire, interrupts are held back.
        """
        self._bus_master = on
        self._gate.bus_master(on)

    def reset(self, now_ns: int) -> None:
        """CTRL.reset: all but the MAC address and the state of the link."""
        for pair in self.pairs:
            pair.reset(now_ns)
        self._events.reset()
        self._gate.reset()
        self._registers.reset(keep=MAC_REGISTERS)

    def power_reset(self, now_ns: int) -> None:
        """Function-level reset: a reset that also brings back the MAC address of the config.

        Bus mastering belongs to configuration space: its owner calls :meth:`bus_master`.
        """
        self.reset(now_ns)
        self._restore_mac()

    def link(self, up: bool, now_ns: int) -> None:
        """The cable was plugged in or pulled out. While it is out, rings keep their state."""
        if up != self._link_up:
            self._link_up = up
            self._events.raise_event(DMABED_EVENT_LINK)

    # ------------------------------------------------------------ what the device does

    def step(self, now_ns: int) -> int | None:
        """One bounded batch of work.

        Returns when the next step is due, in ns; ``now_ns`` or earlier: at once; None: not before
        another method was called.
        """
        if not self._bus_master:
            return None
        busy = False
        for pair in self.pairs:
            pair.rx.refill(now_ns)
            if self._passing:
                busy |= pair.tx.run(now_ns)
        busy |= self._receive(now_ns)
        for pair in self.pairs:
            pair.moderation.poll(now_ns)
        return now_ns if busy else self._next_ns(now_ns)

    @property
    def _passing(self) -> bool:
        return self._link_up and bool(self._registers.get("CTRL") & DMABED_CTRL_ENABLE)

    def _next_ns(self, now_ns: int) -> int | None:
        times = [pair.moderation.deadline_ns() for pair in self.pairs]
        if self._room():
            times.append(self._wire.next_due_ns(now_ns))
        return min((time for time in times if time is not None), default=None)

    def in_use(self) -> tuple[QueuePair, ...]:
        """The pairs that frames are steered to: the first RSS_QUEUES of them."""
        return self.pairs[: max(1, self._registers.get("RSS_QUEUES"))]

    def _room(self) -> int:
        """How many frames to take from the wire now.

        None while the MAC is off or the link is down: what is on the wire waits there. With PAUSE:
        no more than there are descriptors on the rings in use, and none while a frame waits or a
        ring in use does not run, as the frame that is next may be for that one.
        """
        if not self._passing:
            return 0
        if not self.config.pause:
            return self.config.batch
        rings = [pair.rx.ring for pair in self.in_use()]
        if not all(ring.running for ring in rings) or any(p.rx.waiting for p in self.pairs):
            return 0
        return min(self.config.batch, sum(ring.posted for ring in rings))

    def _receive(self, now_ns: int) -> bool:
        """Takes a batch from the wire; True if there was one, so there may be another."""
        room = self._room()
        if not room:
            return False
        frames = self._wire.receive(room, now_ns)
        if not len(frames.lengths):
            return False
        self._distribute(frames, now_ns)
        return True

    def _distribute(self, frames: FrameBatch, now_ns: int) -> None:
        """Filters ``frames`` and hands each to the receiver of its queue."""
        frames, hashes = steer(frames, self._filter())
        longest, pairs = self._registers.get("MAX_FRAME"), self.in_use()
        if len(pairs) == 1:
            pairs[0].rx.take(frames, hashes, longest, now_ns)
            return
        order, ends = by_queue(hashes, len(pairs))
        first = 0
        for pair, end in zip(pairs, ends.tolist(), strict=True):
            if end > first:
                rows = order[first:end]
                pair.rx.take(frames[rows], hashes[rows], longest, now_ns)
            first = end

    # ------------------------------------------------------------ registers

    def _filter(self) -> Filter:
        get = self._registers.get
        bits = get("RX_FILTER")
        return Filter(
            mac=get("MAC_LO") | get("MAC_HI") << 32,
            promisc=bool(bits & DMABED_RX_FILTER_PROMISC),
            allmulti=bool(bits & DMABED_RX_FILTER_ALLMULTI),
        )

    def _restore_mac(self) -> None:
        self._registers.set("MAC_LO", int.from_bytes(self.config.mac[:4], "little"))
        self._registers.set("MAC_HI", int.from_bytes(self.config.mac[4:], "little"))

    def _locked(self, name: str, queue: int) -> bool:
        return queue != GLOBAL and self.pairs[queue].locked(name)

    def _readers(self) -> dict[str, Reader]:
        stats = {r.name: self._read_statistic for r in MAP.queue_registers if r.width == 64}
        return stats | {
            "CAPS": self._read_caps,
            "FRAME_CAP": lambda *_: FRAME_CAP,
            "STATUS": self._read_status,
            "SPEED": lambda *_: self.config.speed_mbps if self._link_up else 0,
            "EVENT": lambda *_: self._events.pending,
            "FAULT_IOVA_LO": lambda *_: self._events.fault_iova,
            "FAULT_IOVA_HI": lambda *_: self._events.fault_iova >> 32,
            "FAULT_INFO": lambda *_: self._events.fault_info,
            "RX_CTRL": lambda name, queue: self.pairs[queue].control(name),
            "TX_CTRL": lambda name, queue: self.pairs[queue].control(name),
            "RX_HEAD": lambda name, queue: self.pairs[queue].side(name).ring.head,
            "TX_HEAD": lambda name, queue: self.pairs[queue].side(name).ring.head,
        }

    def _writers(self) -> dict[str, Writer]:
        return {
            "CTRL": self._write_ctrl,
            "MAX_FRAME": lambda name, _, value, __: self._at_most(name, value, FRAME_CAP),
            "RSS_QUEUES": lambda name, _, value, __: self._at_most(name, value, len(self.pairs)),
            "EVENT": lambda _, __, value, ___: self._events.clear(value),
            "EVENT_MASK": lambda _, __, value, ___: self._events.set_mask(value),
            "MODERATION": lambda _, queue, value, __: self.pairs[queue].moderate(value),
            "ARM": lambda _, queue, value, now_ns: self.pairs[queue].arm(value, now_ns),
            "NOTE": lambda _, __, value, now_ns: self._observer.note(now_ns, value),
            "RX_CTRL": self._write_control,
            "TX_CTRL": self._write_control,
            "RX_TAIL": self._write_tail,
            "TX_TAIL": self._write_tail,
        }

    def _read_statistic(self, name: str, queue: int) -> int:
        return int(getattr(self.pairs[queue].stats, name.lower()))

    def _read_caps(self, *_: object) -> int:
        queues = self.config.queues
        return queues | self.config.ring_log2_max << 8 | RING_LOG2_MIN << 16 | (queues + 1) << 24

    def _read_status(self, *_: object) -> int:
        return DMABED_STATUS_READY | (DMABED_STATUS_LINK_UP if self._link_up else 0)

    def _at_most(self, name: str, value: int, limit: int) -> None:
        self._registers.set(name, min(value, limit))

    def _write_ctrl(self, _: str, __: int, value: int, now_ns: int) -> None:
        if value & DMABED_CTRL_RESET:
            self.reset(now_ns)

    def _write_control(self, name: str, queue: int, value: int, now_ns: int) -> None:
        self.pairs[queue].set_control(name, value, self._registers, now_ns)

    def _write_tail(self, name: str, queue: int, value: int, now_ns: int) -> None:
        self.pairs[queue].side(name).doorbell(value, now_ns)
