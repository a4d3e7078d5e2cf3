# SPDX-License-Identifier: MIT
"""The twin: host, IOMMU, NIC, buffer strategy and ledger in one process and in virtual time.

It predicts what the VM measures, and what no machine at hand can: other IOMMUs, other rates,
other strategies. Counts are exact and repeat by seed; times are counts priced by presets.
"""
