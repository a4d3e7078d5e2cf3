# SPDX-License-Identifier: MIT
"""The reference driver: ``driver/linux`` in Python, function by function and by its names.

Whatever touches the device is ``async def`` and goes through a :class:`~driver.model.host.Host`:
a simulator's scheduler can drive it, or :func:`~driver.model.host.run_to_completion` where nothing
waits.
"""
