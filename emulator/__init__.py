# SPDX-License-Identifier: MIT
"""The device's side: PCIe, NIC, IOMMU, vfio-user, ledger and faults. Imports no other part."""
