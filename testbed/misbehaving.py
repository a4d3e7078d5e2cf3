# SPDX-License-Identifier: MIT
"""NICs that misbehave when they are told to: by a plan of faults, by lying, by attacking."""

from __future__ import annotations

import time

from emulator.faults.injector import FaultReport, Injector
from emulator.faults.plan import FaultPlan
from testbed.attack.attacker import Attack, AttackNic
from testbed.benches import Benches
from testbed.errors import LaboratoryError
from testbed.plants.liar import LiarNic


class Misbehaving(Benches):
    """What can be ordered of NICs that were built for it."""

    def lie(self, name: str, lying: bool) -> None:
        """Whether the NIC's completions name buffers that were never posted.

        Raises:
            LaboratoryError: it was not built to lie.
        """
        device = self._named(name).device
        if not isinstance(device, LiarNic):
            raise LaboratoryError(f"{name} does not lie; serve a LiarNic")
        device.port.lying = lying

    def attack(self, name: str) -> None:
        """When the driver gives its memory back next, the NIC attacks it.

        Raises:
            LaboratoryError: it was not built to.
        """
        self._attacker(name).armed = True
        self._ledger_of(name).state.by_order = "an attack on what it was given before"

    def attacked(self, name: str) -> Attack:
        """What came of the last attack."""
        return self._attacker(name).result

    def _attacker(self, name: str) -> AttackNic:
        device = self._named(name).device
        if not isinstance(device, AttackNic):
            raise LaboratoryError(f"{name} attacks nobody; serve an AttackNic")
        return device

    def arm(self, name: str, plan: FaultPlan) -> None:
        """Lets the NIC misbehave by ``plan``.

        Raises:
            LaboratoryError: it was not built to. UnknownFaultError: see the registry.
        """
        self._injector_of(name).arm(plan, time.monotonic_ns())
        self._named(name).seat.wake()

    def disarm(self, name: str) -> None:
        """The NIC behaves again."""
        self._injector_of(name).disarm(time.monotonic_ns())
        self._named(name).seat.wake()

    def fault_report(self, name: str) -> FaultReport:
        """What it did by order so far."""
        return self._injector_of(name).report()

    def blames(self, name: str) -> dict[str, int]:
        """Violations by rule that nobody ordered."""
        return self._injector_of(name).blames()

    def _injector_of(self, name: str) -> Injector:
        injector = self._named(name).injector
        if injector is None:
            raise LaboratoryError(f"{name}: was not built to misbehave; set NicSpec.faulty")
        return injector
