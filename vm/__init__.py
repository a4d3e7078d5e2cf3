# SPDX-License-Identifier: MIT
"""Boots Linux in stock QEMU and drives the guest: see `vm.guest.Guest` and `vm.artifacts.setup`."""
