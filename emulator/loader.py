# SPDX-License-Identifier: MIT
"""Loads a user's device from ``file.py:ClassName``; one named error for each way to fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from emulator.errors import DmabedError
from emulator.pci.device import PciDevice
from emulator.pci.function import declare


class LoaderError(DmabedError):
    """A device could not be loaded."""


class DeviceSpecError(LoaderError):
    """The text is not ``file.py:ClassName``."""


class DeviceFileMissingError(LoaderError):
    """There is no such file, or it cannot be read."""


class DeviceFileError(LoaderError):
    """The file is there, but running it failed."""


class DeviceClassMissingError(LoaderError):
    """The file does not define that class."""


class NotADeviceError(LoaderError):
    """The name is not a subclass of :class:`~emulator.pci.device.PciDevice`."""


class DeviceConstructionError(LoaderError):
    """The class cannot be constructed without arguments, or its ``__init__`` failed."""


def load_device(spec: str) -> PciDevice:
    """A new device of the class that ``spec`` names, checked to make a PCI function.

    The file is run as a module of its own; files next to it are not importable from it.

    Raises:
        LoaderError: one of its subclasses.
        BadDeviceError: the class's attributes do not make a PCI function.
    """
    path, name = _split(spec)
    module = _run(path)
    device = _construct(_find(module, path, name), path, name)
    declare(device)
    return device


def _split(spec: str) -> tuple[Path, str]:
    file, colon, name = spec.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise DeviceSpecError(
            f"{spec!r} does not name a device: write file.py:ClassName, "
            "for example examples/scratch_device.py:ScratchDevice"
        )
    return Path(file), name


def _run(path: Path) -> ModuleType:
    try:
        path.open("rb").close()
    except OSError as error:
        raise DeviceFileMissingError(
            f"{path} (looked for from {Path.cwd()}) cannot be read: {error.strerror}"
        ) from error
    name = f"dmabed_device_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DeviceFileMissingError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look a class's module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise DeviceFileError(f"running {path} failed: {_said(error)}") from error
    return module


def _find(module: ModuleType, path: Path, name: str) -> type[PciDevice]:
    found = getattr(module, name, None)
    if found is None:
        devices = [key for key, value in vars(module).items() if _is_device(value)]
        there = f"it has {', '.join(devices)}" if devices else "it has no PciDevice at all"
        raise DeviceClassMissingError(f"{path} defines no {name}: {there}")
    if not isinstance(found, type) or not issubclass(found, PciDevice):
        raise NotADeviceError(
            f"{name} of {path} is not a device: "
            "make it a class derived from emulator.pci.device.PciDevice"
        )
    return found


def _is_device(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, PciDevice) and value is not PciDevice


def _construct(device_class: type[PciDevice], path: Path, name: str) -> PciDevice:
    try:
        return device_class()
    except (Exception, SystemExit) as error:
        raise DeviceConstructionError(
            f"{name}() of {path} failed: {_said(error)}; "
            "a served device is constructed without arguments"
        ) from error


def _said(error: BaseException) -> str:
    """The error in one line, with the line of the user's file that it came from."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    line = f" (line {where.tb_lineno} of {where.tb_frame.f_code.co_filename})" if where else ""
    return f"{type(error).__name__}: {error}{line}"
