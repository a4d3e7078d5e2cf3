# SPDX-License-Identifier: MIT
"""``python -m testbed.cosim.serve MODULE:CLASS SOCKET``: a design of one's own for one guest.

The class is a :class:`~emulator.rtl.pci_device.RtlDevice` that says what to build: ``top``,
``files``. Logs, waves (WAVES=1) and the verdict are left beside the socket.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from emulator.rtl.pci_device import RtlDevice
from emulator.rtl.simulators import Design, run, waves_wanted
from testbed.errors import LaboratoryError


def load_design(name: str) -> type[RtlDevice]:
    """The class that ``module:Class`` names.

    Raises:
        LaboratoryError: there is none.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise LaboratoryError(f"{name!r} is no module:Class: {error}") from error
    if not (isinstance(found, type) and issubclass(found, RtlDevice)):
        raise LaboratoryError(f"{name} is no RtlDevice")
    return found


def serve(name: str, socket: Path, simulator: str = "verilator") -> str:
    """Builds, serves until the guest is gone, returns the ledger's verdict.

    Raises:
        LaboratoryError, MissingSimulatorError, SimulationError: as they say.
    """
    device = load_design(name)
    design = Design(top=device.top, files=device.files, waves=waves_wanted())
    folder = socket.parent / f"{device.top}-{simulator}"
    environment = {"COSIM_DEVICE": name, "COSIM_SOCKET": str(socket.resolve())}
    bench = "testbed.cosim.serve_bench"
    run(simulator, design, bench, folder=folder, env=environment).require()
    return (folder / "verdict.txt").read_text()


def main(arguments: list[str]) -> None:
    """Says what to give QEMU, serves, prints the verdict."""
    name, socket, *simulator = arguments
    place = {"type": "unix", "path": str(Path(socket).resolve())}
    properties = {"driver": "vfio-user-pci", "socket": place, "x-msg-timeout": 60_000}
    print(f"serving {name}; give QEMU: -device '{json.dumps(properties)}'", flush=True)
    print(serve(name, Path(socket), *simulator))


if __name__ == "__main__":
    main(sys.argv[1:])
