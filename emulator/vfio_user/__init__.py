# SPDX-License-Identifier: MIT
"""The vfio-user protocol: codec and session without I/O, and the edge that owns the UNIX socket.

`messages` declares the wire format, `session` is the protocol, `device` is what a device has to
offer, `server` and `connection` own sockets, `backing` maps guest memory received as descriptors.
"""
