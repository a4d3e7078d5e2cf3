# SPDX-License-Identifier: MIT
"""The interactive guest: a shell on a terminal, which is given back as it was."""

import os
import pty
import select
import subprocess
import sys
import termios
import time

import pytest

from vm.artifacts import Artifacts

pytestmark = pytest.mark.vm

LIMIT_S = 120


def read_until(terminal: int, words: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + LIMIT_S
    while words not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{words!r} did not appear in {seen!r}"
        seen += os.read(terminal, 4096)
    return seen


def test_shell_answers_takes_interrupts_and_gives_the_terminal_back(artifacts: Artifacts) -> None:
    terminal, child_end = pty.openpty()
    before = termios.tcgetattr(child_end)
    shell = subprocess.Popen(
        [sys.executable, "-m", "vm", "shell", "--iommu", "none"],
        stdin=child_end,
        stdout=child_end,
        stderr=child_end,
    )
    try:
        read_until(terminal, b"# ")
        os.write(terminal, b"echo answer-$((6 * 7))\r")
        read_until(terminal, b"answer-42")
        # Ctrl-C must end the guest's sleep, not our process.
        os.write(terminal, b"echo before; sleep 600; echo after-$?\r")
        read_until(terminal, b"before\r\n")
        time.sleep(0.5)
        os.write(terminal, b"\x03")
        read_until(terminal, b"# ")
        os.write(terminal, b"exit\r")
        assert shell.wait(LIMIT_S) == 0
        assert termios.tcgetattr(child_end) == before
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
        os.close(child_end)
