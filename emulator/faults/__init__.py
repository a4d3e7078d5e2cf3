# SPDX-License-Identifier: MIT
"""Misbehaviour by order: wrappers around the ports of a well-behaved NIC.

A fault never lives in the NIC. It wraps one of the five ways in which the NIC meets the world
(:class:`emulator.faults.ports.Ports`), so that the model stays what it is and the misbehaviour
ends when the wrapper is taken away. Numbers X-n are those of ``docs/faults.md``.
"""
