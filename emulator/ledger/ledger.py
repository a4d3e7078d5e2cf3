# SPDX-License-Identifier: MIT
"""The ledger: several devices, one timeline, one set of rules, one verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emulator.ledger.device import DeviceLedger
from emulator.ledger.events import EventKind, Timeline
from emulator.ledger.policy import Policy
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.rules.catalogue import RULES
from emulator.ledger.rules.o18_amortisation import Amortisation
from emulator.ledger.state import DeviceState
from emulator.ledger.verdict import Exposure, Verdict
from emulator.ledger.violation import ViolationLog


class Ledger:
    """Record and judge of what happens to the devices of one run.

    Args:
        clock: ns now, on the clock of the devices: asked only for the verdict.
        policy: how strictly to judge.
        timeline: where events go; by default the newest million stays in memory.
        rules: classes of the rules in force.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        policy: Policy | None = None,
        timeline: Timeline | None = None,
        rules: Sequence[type[Rule]] = RULES,
    ) -> None:
        self.policy = Policy() if policy is None else policy
        self.timeline = Timeline() if timeline is None else timeline
        self.log = ViolationLog(self.policy.keep_violations)
        self.devices: dict[str, DeviceLedger] = {}
        self._clock = clock
        self._rules = rules
        self._commons = Commons(self.log, self.timeline)

    def device(self, name: str) -> DeviceLedger:
        """The ledger of the device ``name``, which joins if it is new."""
        if name in self.devices:
            return self.devices[name]
        state = DeviceState(name, len(self.devices), self.policy)
        self._commons.devices.append(state)
        self.devices[name] = DeviceLedger(state, self._commons, self._rules)
        if len(self.devices) > 1:
            for device in self.devices.values():
                device.peer_added()
        return self.devices[name]

    def mark(self, now_ns: int, name: str, device: str | None = None) -> None:
        """The guest says ``name`` (see :class:`emulator.ledger.Mark`) of one device or of all."""
        for ledger in self._chosen(device):
            ledger.marked(now_ns, name)

    def window_begin(self, now_ns: int, name: str, device: str | None = None) -> None:
        """Starts a window of exact counts for one device or for all."""
        for ledger in self._chosen(device):
            ledger.window_begin(now_ns, name)

    def window_end(self, now_ns: int, name: str, device: str | None = None) -> Amortisation:
        """Counts since :meth:`window_begin`, of one device or summed over all.

        Raises:
            KeyError: no such window was begun.
        """
        counted = [ledger.window_end(now_ns, name) for ledger in self._chosen(device)]
        return Amortisation.total(counted)

    def verdict(self, now_ns: int | None = None) -> Verdict:
        """The judgement so far; may be asked for at any time."""
        at_ns = self._clock() if now_ns is None else now_ns
        for ledger in self.devices.values():
            ledger.look(at_ns)
        exposures = tuple(Exposure.of(ledger, at_ns) for ledger in self.devices.values())
        return Verdict(
            ok=not self.log.counts,
            exposed=self.policy.lazy and any(seen.windows for seen in exposures),
            violations=tuple(self.log.kept),
            counts=dict(self.log.counts),
            exposures=exposures,
            totals={name: ledger.totals for name, ledger in self.devices.items()},
            events={kind.name: self.timeline.counts[kind] for kind in EventKind},
            not_judged={name: ledger.not_judged() for name, ledger in self.devices.items()},
        )

    def to_npz(self) -> bytes:
        """The kept events as .npz; see :meth:`emulator.ledger.events.Timeline.to_npz`."""
        return self.timeline.to_npz(list(self.devices))

    def to_csv(self) -> bytes:
        """The kept events as a text table."""
        return self.timeline.to_csv(list(self.devices))

    def _chosen(self, device: str | None) -> list[DeviceLedger]:
        return list(self.devices.values()) if device is None else [self.devices[device]]
