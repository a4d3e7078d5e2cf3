# SPDX-License-Identifier: MIT
"""The stale window, attacked: what a device can write after the guest has given memory away."""
