# SPDX-License-Identifier: MIT
import pytest

from emulator.ledger import Ledger
from tests.unit.ledger.support import Host


@pytest.fixture
def ledger():
    return Ledger(lambda: 0)


@pytest.fixture
def host(ledger):
    return Host(ledger)
