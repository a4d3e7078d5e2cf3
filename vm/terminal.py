# SPDX-License-Identifier: MIT
"""Puts a guest's serial console on the user's terminal, with a shell on it."""

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator

from vm.errors import SetupError
from vm.guest import Guest

LEAVE_KEY = b"\x1d"  # Ctrl-]
# A child of the command's shell is no group leader, so setsid need not fork and the command lasts
# as long as the shell; the first terminal a session leader opens becomes its controlling terminal.
_SHELL = (
    "(setsid sh -c 'stty {size} </dev/ttyS0; cd /root; exec sh -l </dev/ttyS0 >/dev/ttyS0 2>&1')"
    "; exit 0"
)


async def shell_on_terminal(guest: Guest) -> None:
    """Runs a shell on the guest's console, joined to our terminal, until it exits or Ctrl-].

    The terminal is in raw mode meanwhile (so Ctrl-C reaches the guest) and is restored whatever
    happens.

    Raises:
        SetupError: standard input is no terminal.
        GuestPanicked, GuestHung, QemuDied: the guest was lost.
    """
    if not sys.stdin.isatty():
        raise SetupError("an interactive guest needs a terminal on standard input")
    left = asyncio.Event()
    columns, rows = os.get_terminal_size(sys.stdin.fileno())
    command = _SHELL.format(size=f"rows {rows} cols {columns}")
    with _raw_terminal(), _joined(guest, left.set):
        shell = asyncio.create_task(guest.run(command, timeout_s=None, check=False))
        leaving = asyncio.create_task(left.wait())
        done, pending = await asyncio.wait([shell, leaving], return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if shell in done:
        shell.result()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _joined(guest: Guest, leave: Callable[[], None]) -> Iterator[None]:
    """Copies keys to the console and the console's output to standard output."""
    loop = asyncio.get_running_loop()
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()

    def on_key() -> None:
        keys = os.read(keyboard, 1024)
        if not keys or LEAVE_KEY in keys:
            leave()
        else:
            guest.write_console(keys)

    def on_console(data: bytes) -> None:
        while data:
            data = data[os.write(screen, data) :]

    guest.on_console = on_console
    loop.add_reader(keyboard, on_key)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        guest.on_console = None
