# SPDX-License-Identifier: MIT
"""A PCI Express endpoint without I/O: configuration space, capabilities, MSI-X, reset and power."""
