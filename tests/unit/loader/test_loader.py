# SPDX-License-Identifier: MIT
"""Loading a user's device: what is wrong is named, together with where and what to do."""

from pathlib import Path

import pytest

from emulator.loader import (
    DeviceClassMissingError,
    DeviceConstructionError,
    DeviceFileError,
    DeviceFileMissingError,
    DeviceSpecError,
    NotADeviceError,
    load_device,
)
from emulator.pci.errors import BadDeviceError

GOOD = """
from dataclasses import dataclass
from emulator.pci.device import PciDevice

@dataclass
class Config:
    value: "int" = 3

class Good(PciDevice):
    device_id = 0x77

class TooBig(Good):
    msix_vectors = 1000

class Needy(Good):
    def __init__(self, size):
        pass

class Clumsy(Good):
    def __init__(self):
        {}["missing"]

number = 5
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def test_class_of_a_file_is_constructed(file):
    device = load_device(f"{file}:Good")
    assert device.device_id == 0x77
    assert load_device(f"{file}:Good") is not device


def test_example_of_the_documentation_loads():
    example = Path(__file__).parents[3] / "examples" / "scratch_device.py"
    assert load_device(f"{example}:ScratchDevice").device_id == 0x5C7A


@pytest.mark.parametrize("spec", ["", "mine.py", "mine:Good", "mine.py:", "mine.py:a b", ":Good"])
def test_text_that_names_no_device_is_refused(spec):
    with pytest.raises(DeviceSpecError, match=r"write file\.py:ClassName"):
        load_device(spec)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DeviceFileMissingError, match=r"nowhere\.py .*No such file"):
        load_device(f"{tmp_path}/nowhere.py:Good")


def test_folder_is_no_file(tmp_path):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(DeviceFileMissingError):
        load_device(f"{tmp_path}/folder.py:Good")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Broken(:\n", "SyntaxError"),
        ("import nothing_of_that_name\n", "ModuleNotFoundError"),
        ("x = 1\nx / 0\n", r"ZeroDivisionError.*line 2 of .*mine.py"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("open('/nowhere/at/all')\n", "FileNotFoundError"),
    ],
)
def test_file_that_does_not_run_is_refused_with_its_own_error(file, text, said):
    file.write_text(text)
    with pytest.raises(DeviceFileError, match=said):
        load_device(f"{file}:Good")


def test_missing_class_is_refused_with_those_that_are_there(file):
    with pytest.raises(DeviceClassMissingError, match="it has Good, TooBig, Needy, Clumsy"):
        load_device(f"{file}:Best")


@pytest.mark.parametrize("name", ["Config", "number"])
def test_name_that_is_no_device_is_refused(file, name):
    with pytest.raises(NotADeviceError, match=name):
        load_device(f"{file}:{name}")


@pytest.mark.parametrize(
    ("name", "said"), [("Needy", "without arguments"), ("Clumsy", r"KeyError.*line \d+")]
)
def test_class_that_cannot_be_constructed_is_refused(file, name, said):
    with pytest.raises(DeviceConstructionError, match=said):
        load_device(f"{file}:{name}")


def test_device_that_makes_no_function_is_refused_before_it_is_served(file):
    with pytest.raises(BadDeviceError, match="msix_vectors"):
        load_device(f"{file}:TooBig")
