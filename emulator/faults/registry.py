# SPDX-License-Identifier: MIT
"""All faults by name and number, and why some numbers of the catalogue have none here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from emulator.faults import (
    addresses,
    completions,
    interrupts,
    maps,
    payload,
    plan,
    prefetch,
    presence,
    state,
)
from emulator.faults.errors import UnknownFaultError
from emulator.faults.fault import Fault

LAST = 58
UNUSED = frozenset(range(21, 30))
"""Numbers that the catalogue leaves out."""


def _declared(module: ModuleType) -> list[type[Fault]]:
    """Fault classes of ``module`` that have a number, in the order of their text."""
    return [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Fault)
        and item.__module__ == module.__name__
        and "number" in vars(item)
    ]


_MODULES = (addresses, prefetch, state, payload, completions, interrupts, presence, maps)
FAULTS: Mapping[str, type[Fault]] = MappingProxyType(
    {
        kind.name: kind
        for kind in sorted(
            (kind for module in _MODULES for kind in _declared(module)),
            key=lambda kind: int(kind.number[2:]),
        )
    }
)
"""Name -> class, by number."""

ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "X-47": "QEMU injects them at the root port: rung vm, faults aer-non-fatal, aer-fatal",
        "X-49": "no requester ID in a message to be forged; in RTL it is checked of each TLP",
        "X-50": "vfio-user has no ATS; in RTL check K15: nothing translated that nobody granted",
        "X-54": "no clock, no PTM capability, no timestamp in a completion: nothing to be believed",
        "X-57": "memory fails in the guest, not in the device: fault no-memory, rung in-process",
        "X-58": "the device's process: rung vm, faults device-killed, -stopped, -late, -restarted",
    }
)
"""Numbers without a class here, and why, or where else they are."""

plan.NAMES[:] = list(FAULTS)


def fault_class(name: str) -> type[Fault]:
    """The fault of that name.

    Raises:
        UnknownFaultError: there is none; the text names the nearest.
    """
    kind = FAULTS.get(name)
    if kind is not None:
        return kind
    near = difflib.get_close_matches(name, FAULTS, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    raise UnknownFaultError(f'no fault "{name}"; there are: {", ".join(FAULTS)}{hint}')


def default_plan(name: str, seed: int = 1, before: str = "") -> plan.FaultPlan:
    """The plan that shows fault ``name``; ``before``: TOML of faults to arm with it.

    Raises:
        UnknownFaultError: see :func:`fault_class`.
    """
    kind = fault_class(name)
    text = f'seed = {seed}\n{before}[[fault]]\nname = "{name}"\n{kind.default}\n'
    return plan.parse_plan(text, name)
