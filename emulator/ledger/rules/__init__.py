# SPDX-License-Identifier: MIT
"""The rules of the ledger, one file each; their numbers are those of the project's rule list."""
