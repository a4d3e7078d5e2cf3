# SPDX-License-Identifier: MIT
"""What a NIC's cable leads to: a generator, a pcap file, a peer, a loop, or several at once."""
