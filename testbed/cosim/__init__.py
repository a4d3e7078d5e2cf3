# SPDX-License-Identifier: MIT
"""The guest on the RTL: the vfio-user server inside the simulator's process."""
