# SPDX-License-Identifier: MIT
"""Registers of the NIC: offsets, masks, values, and the tables the model is driven by.

Generated from registers.rdl and descriptors.py; change those and run:
python -m emulator.nic.generate

Names are those of the C header ``driver/linux/dmabed_hw.h``. ``DMABED_<REG>`` and
``DMABED_QP_<REG>`` are offsets in bytes (the latter within a queue pair), ``..._<FIELD>`` masks.
"""

from __future__ import annotations

from typing import Final

from emulator.nic.regmap import Access, Field, Register, RegisterMap

DMABED_PCI_VENDOR: Final = 0x1234
DMABED_PCI_DEVICE: Final = 0xDBED

# Identity
DMABED_ID: Final = 0x0000
DMABED_ID_MAGIC: Final = 0xFFFFFFFF
DMABED_ID_MAGIC_VALUE: Final = 0x44424544

# Interface version
DMABED_VERSION: Final = 0x0004
DMABED_VERSION_MINOR: Final = 0xFFFF
DMABED_VERSION_MINOR_VALUE: Final = 0x0
DMABED_VERSION_MAJOR: Final = 0xFFFF0000
DMABED_VERSION_MAJOR_VALUE: Final = 0x1

# Capabilities
DMABED_CAPS: Final = 0x0008
DMABED_CAPS_QUEUES: Final = 0xFF
DMABED_CAPS_RING_LOG2_MAX: Final = 0xFF00
DMABED_CAPS_RING_LOG2_MIN: Final = 0xFF0000
DMABED_CAPS_VECTORS: Final = 0xFF000000

# Largest frame the device can carry
DMABED_FRAME_CAP: Final = 0x000C
DMABED_FRAME_CAP_BYTES: Final = 0xFFFF

# Control
DMABED_CTRL: Final = 0x0010
DMABED_CTRL_ENABLE: Final = 0x1
DMABED_CTRL_RESET: Final = 0x2

# Status
DMABED_STATUS: Final = 0x0014
DMABED_STATUS_READY: Final = 0x1
DMABED_STATUS_LINK_UP: Final = 0x2

# Link speed
DMABED_SPEED: Final = 0x0018
DMABED_SPEED_MBPS: Final = 0xFFFFFFFF

# Largest frame accepted
DMABED_MAX_FRAME: Final = 0x001C
DMABED_MAX_FRAME_BYTES: Final = 0xFFFF

# MAC address, bytes 0 to 3
DMABED_MAC_LO: Final = 0x0020
DMABED_MAC_LO_BYTES: Final = 0xFFFFFFFF

# MAC address, bytes 4 and 5
DMABED_MAC_HI: Final = 0x0024
DMABED_MAC_HI_BYTES: Final = 0xFFFF

# Receive filter
DMABED_RX_FILTER: Final = 0x0028
DMABED_RX_FILTER_PROMISC: Final = 0x1
DMABED_RX_FILTER_ALLMULTI: Final = 0x2

# Receive queues in use
DMABED_RSS_QUEUES: Final = 0x002C
DMABED_RSS_QUEUES_COUNT: Final = 0xFF

# Events pending
DMABED_EVENT: Final = 0x0030
DMABED_EVENT_LINK: Final = 0x1
DMABED_EVENT_DMA_FAULT: Final = 0x2
DMABED_EVENT_RING_FAULT: Final = 0x4

# Events that raise vector 0
DMABED_EVENT_MASK: Final = 0x0034
DMABED_EVENT_MASK_LINK: Final = 0x1
DMABED_EVENT_MASK_DMA_FAULT: Final = 0x2
DMABED_EVENT_MASK_RING_FAULT: Final = 0x4

# First refused DMA: IOVA, low half
DMABED_FAULT_IOVA_LO: Final = 0x0038
DMABED_FAULT_IOVA_LO_IOVA: Final = 0xFFFFFFFF

# First refused DMA: IOVA, high half
DMABED_FAULT_IOVA_HI: Final = 0x003C
DMABED_FAULT_IOVA_HI_IOVA: Final = 0xFFFFFFFF

# First refused DMA: what it was
DMABED_FAULT_INFO: Final = 0x0040
DMABED_FAULT_INFO_QUEUE: Final = 0xFF
DMABED_FAULT_INFO_STAGE: Final = 0xF00
DMABED_FAULT_INFO_TX: Final = 0x1000
DMABED_FAULT_INFO_WRITE: Final = 0x2000
DMABED_FAULT_INFO_COUNT: Final = 0xFFFF0000

# Driver's note
DMABED_NOTE: Final = 0x0044
DMABED_NOTE_VALUE: Final = 0xFFFFFFFF

# Queue pairs
DMABED_QP_MAX: Final = 16
DMABED_QP_STRIDE: Final = 0x0100

# Receive descriptor ring: IOVA, low half
DMABED_QP_RX_RING_LO: Final = 0x0000
DMABED_QP_RX_RING_LO_IOVA: Final = 0xFFFFFFFF

# Receive descriptor ring: IOVA, high half
DMABED_QP_RX_RING_HI: Final = 0x0004
DMABED_QP_RX_RING_HI_IOVA: Final = 0xFFFFFFFF

# Receive completion ring: IOVA, low half
DMABED_QP_RX_CQ_LO: Final = 0x0008
DMABED_QP_RX_CQ_LO_IOVA: Final = 0xFFFFFFFF

# Receive completion ring: IOVA, high half
DMABED_QP_RX_CQ_HI: Final = 0x000C
DMABED_QP_RX_CQ_HI_IOVA: Final = 0xFFFFFFFF

# Receive ring size
DMABED_QP_RX_SIZE: Final = 0x0010
DMABED_QP_RX_SIZE_LOG2: Final = 0xF

# Receive ring control
DMABED_QP_RX_CTRL: Final = 0x0014
DMABED_QP_RX_CTRL_ENABLE: Final = 0x1
DMABED_QP_RX_CTRL_RUNNING: Final = 0x2

# Interrupt moderation of the pair's vector
DMABED_QP_MODERATION: Final = 0x0018
DMABED_QP_MODERATION_USECS: Final = 0xFFFF
DMABED_QP_MODERATION_FRAMES: Final = 0xFFFF0000

# Receive doorbell
DMABED_QP_RX_TAIL: Final = 0x0020
DMABED_QP_RX_TAIL_POSTED: Final = 0xFFFFFFFF

# Transmit doorbell
DMABED_QP_TX_TAIL: Final = 0x0024
DMABED_QP_TX_TAIL_POSTED: Final = 0xFFFFFFFF

# Interrupt arm
DMABED_QP_ARM: Final = 0x0028
DMABED_QP_ARM_RX_SEEN: Final = 0xFFFF
DMABED_QP_ARM_TX_SEEN: Final = 0xFFFF0000

# Receive descriptors consumed
DMABED_QP_RX_HEAD: Final = 0x0030
DMABED_QP_RX_HEAD_COUNT: Final = 0xFFFFFFFF

# Transmit descriptors consumed
DMABED_QP_TX_HEAD: Final = 0x0034
DMABED_QP_TX_HEAD_COUNT: Final = 0xFFFFFFFF

# Transmit descriptor ring: IOVA, low half
DMABED_QP_TX_RING_LO: Final = 0x0040
DMABED_QP_TX_RING_LO_IOVA: Final = 0xFFFFFFFF

# Transmit descriptor ring: IOVA, high half
DMABED_QP_TX_RING_HI: Final = 0x0044
DMABED_QP_TX_RING_HI_IOVA: Final = 0xFFFFFFFF

# Transmit completion ring: IOVA, low half
DMABED_QP_TX_CQ_LO: Final = 0x0048
DMABED_QP_TX_CQ_LO_IOVA: Final = 0xFFFFFFFF

# Transmit completion ring: IOVA, high half
DMABED_QP_TX_CQ_HI: Final = 0x004C
DMABED_QP_TX_CQ_HI_IOVA: Final = 0xFFFFFFFF

# Transmit ring size
DMABED_QP_TX_SIZE: Final = 0x0050
DMABED_QP_TX_SIZE_LOG2: Final = 0xF

# Transmit ring control
DMABED_QP_TX_CTRL: Final = 0x0054
DMABED_QP_TX_CTRL_ENABLE: Final = 0x1
DMABED_QP_TX_CTRL_RUNNING: Final = 0x2

# Frames received
DMABED_QP_RX_PACKETS: Final = 0x0080
DMABED_QP_RX_PACKETS_COUNT: Final = 0xFFFFFFFFFFFFFFFF

# Bytes received
DMABED_QP_RX_BYTES: Final = 0x0088
DMABED_QP_RX_BYTES_COUNT: Final = 0xFFFFFFFFFFFFFFFF

# Frames dropped for want of descriptors
DMABED_QP_RX_DROPS: Final = 0x0090
DMABED_QP_RX_DROPS_COUNT: Final = 0xFFFFFFFFFFFFFFFF

# Frames dropped: too long, or a DMA was refused
DMABED_QP_RX_ERRORS: Final = 0x0098
DMABED_QP_RX_ERRORS_COUNT: Final = 0xFFFFFFFFFFFFFFFF

# Frames sent
DMABED_QP_TX_PACKETS: Final = 0x00A0
DMABED_QP_TX_PACKETS_COUNT: Final = 0xFFFFFFFFFFFFFFFF

# Bytes sent
DMABED_QP_TX_BYTES: Final = 0x00A8
DMABED_QP_TX_BYTES_COUNT: Final = 0xFFFFFFFFFFFFFFFF

# Frames not sent: bad descriptor, or a DMA was refused
DMABED_QP_TX_ERRORS: Final = 0x00B0
DMABED_QP_TX_ERRORS_COUNT: Final = 0xFFFFFFFFFFFFFFFF

# Interrupts raised
DMABED_QP_INTERRUPTS: Final = 0x00B8
DMABED_QP_INTERRUPTS_COUNT: Final = 0xFFFFFFFFFFFFFFFF

# Bits of descriptors and completions
DMABED_TX_DESC_FLAGS_EOP: Final = 0x1
DMABED_COMPLETION_STATUS_PHASE: Final = 0x1
DMABED_COMPLETION_STATUS_EOP: Final = 0x2
DMABED_COMPLETION_STATUS_SOP: Final = 0x4
DMABED_COMPLETION_STATUS_ERROR: Final = 0x8


def qp_base(queue: int) -> int:
    """Offset of queue pair ``queue`` in the BAR, bytes: DMABED_QP_BASE of the C header."""
    return 0x1000 + queue * DMABED_QP_STRIDE


MAP: Final = RegisterMap(
    registers=(
        Register(
            "ID",
            0x0000,
            32,
            (Field("MAGIC", 0, 32, Access.RO, reset=0x44424544, fixed=True),),
        ),
        Register(
            "VERSION",
            0x0004,
            32,
            (
                Field("MINOR", 0, 16, Access.RO, reset=0x0, fixed=True),
                Field("MAJOR", 16, 16, Access.RO, reset=0x1, fixed=True),
            ),
        ),
        Register(
            "CAPS",
            0x0008,
            32,
            (
                Field("QUEUES", 0, 8, Access.RO),
                Field("RING_LOG2_MAX", 8, 8, Access.RO),
                Field("RING_LOG2_MIN", 16, 8, Access.RO),
                Field("VECTORS", 24, 8, Access.RO),
            ),
        ),
        Register("FRAME_CAP", 0x000C, 32, (Field("BYTES", 0, 16, Access.RO),)),
        Register(
            "CTRL",
            0x0010,
            32,
            (
                Field("ENABLE", 0, 1, Access.RW, reset=0x0),
                Field("RESET", 1, 1, Access.PULSE, reset=0x0),
            ),
        ),
        Register(
            "STATUS",
            0x0014,
            32,
            (
                Field("READY", 0, 1, Access.RO, reset=0x1),
                Field("LINK_UP", 1, 1, Access.RO, reset=0x0),
            ),
        ),
        Register("SPEED", 0x0018, 32, (Field("MBPS", 0, 32, Access.RO),)),
        Register("MAX_FRAME", 0x001C, 32, (Field("BYTES", 0, 16, Access.RW, reset=0x5EE),)),
        Register("MAC_LO", 0x0020, 32, (Field("BYTES", 0, 32, Access.RW),)),
        Register("MAC_HI", 0x0024, 32, (Field("BYTES", 0, 16, Access.RW),)),
        Register(
            "RX_FILTER",
            0x0028,
            32,
            (
                Field("PROMISC", 0, 1, Access.RW, reset=0x0),
                Field("ALLMULTI", 1, 1, Access.RW, reset=0x0),
            ),
        ),
        Register("RSS_QUEUES", 0x002C, 32, (Field("COUNT", 0, 8, Access.RW, reset=0x1),)),
        Register(
            "EVENT",
            0x0030,
            32,
            (
                Field("LINK", 0, 1, Access.W1C, reset=0x0),
                Field("DMA_FAULT", 1, 1, Access.W1C, reset=0x0),
                Field("RING_FAULT", 2, 1, Access.W1C, reset=0x0),
            ),
        ),
        Register(
            "EVENT_MASK",
            0x0034,
            32,
            (
                Field("LINK", 0, 1, Access.RW, reset=0x0),
                Field("DMA_FAULT", 1, 1, Access.RW, reset=0x0),
                Field("RING_FAULT", 2, 1, Access.RW, reset=0x0),
            ),
        ),
        Register("FAULT_IOVA_LO", 0x0038, 32, (Field("IOVA", 0, 32, Access.RO, reset=0x0),)),
        Register("FAULT_IOVA_HI", 0x003C, 32, (Field("IOVA", 0, 32, Access.RO, reset=0x0),)),
        Register(
            "FAULT_INFO",
            0x0040,
            32,
            (
                Field("QUEUE", 0, 8, Access.RO, reset=0x0),
                Field("STAGE", 8, 4, Access.RO, reset=0x0),
                Field("TX", 12, 1, Access.RO, reset=0x0),
                Field("WRITE", 13, 1, Access.RO, reset=0x0),
                Field("COUNT", 16, 16, Access.RO, reset=0x0),
            ),
        ),
        Register("NOTE", 0x0044, 32, (Field("VALUE", 0, 32, Access.RW, reset=0x0),)),
    ),
    queue_registers=(
        Register("RX_RING_LO", 0x0000, 32, (Field("IOVA", 0, 32, Access.RW, reset=0x0),)),
        Register("RX_RING_HI", 0x0004, 32, (Field("IOVA", 0, 32, Access.RW, reset=0x0),)),
        Register("RX_CQ_LO", 0x0008, 32, (Field("IOVA", 0, 32, Access.RW, reset=0x0),)),
        Register("RX_CQ_HI", 0x000C, 32, (Field("IOVA", 0, 32, Access.RW, reset=0x0),)),
        Register("RX_SIZE", 0x0010, 32, (Field("LOG2", 0, 4, Access.RW, reset=0x0),)),
        Register(
            "RX_CTRL",
            0x0014,
            32,
            (
                Field("ENABLE", 0, 1, Access.RW, reset=0x0),
                Field("RUNNING", 1, 1, Access.RO, reset=0x0),
            ),
        ),
        Register(
            "MODERATION",
            0x0018,
            32,
            (
                Field("USECS", 0, 16, Access.RW, reset=0x0),
                Field("FRAMES", 16, 16, Access.RW, reset=0x0),
            ),
        ),
        Register("RX_TAIL", 0x0020, 32, (Field("POSTED", 0, 32, Access.WO, reset=0x0),)),
        Register("TX_TAIL", 0x0024, 32, (Field("POSTED", 0, 32, Access.WO, reset=0x0),)),
        Register(
            "ARM",
            0x0028,
            32,
            (
                Field("RX_SEEN", 0, 16, Access.WO, reset=0x0),
                Field("TX_SEEN", 16, 16, Access.WO, reset=0x0),
            ),
        ),
        Register("RX_HEAD", 0x0030, 32, (Field("COUNT", 0, 32, Access.RO, reset=0x0),)),
        Register("TX_HEAD", 0x0034, 32, (Field("COUNT", 0, 32, Access.RO, reset=0x0),)),
        Register("TX_RING_LO", 0x0040, 32, (Field("IOVA", 0, 32, Access.RW, reset=0x0),)),
        Register("TX_RING_HI", 0x0044, 32, (Field("IOVA", 0, 32, Access.RW, reset=0x0),)),
        Register("TX_CQ_LO", 0x0048, 32, (Field("IOVA", 0, 32, Access.RW, reset=0x0),)),
        Register("TX_CQ_HI", 0x004C, 32, (Field("IOVA", 0, 32, Access.RW, reset=0x0),)),
        Register("TX_SIZE", 0x0050, 32, (Field("LOG2", 0, 4, Access.RW, reset=0x0),)),
        Register(
            "TX_CTRL",
            0x0054,
            32,
            (
                Field("ENABLE", 0, 1, Access.RW, reset=0x0),
                Field("RUNNING", 1, 1, Access.RO, reset=0x0),
            ),
        ),
        Register("RX_PACKETS", 0x0080, 64, (Field("COUNT", 0, 64, Access.RO, reset=0x0),)),
        Register("RX_BYTES", 0x0088, 64, (Field("COUNT", 0, 64, Access.RO, reset=0x0),)),
        Register("RX_DROPS", 0x0090, 64, (Field("COUNT", 0, 64, Access.RO, reset=0x0),)),
        Register("RX_ERRORS", 0x0098, 64, (Field("COUNT", 0, 64, Access.RO, reset=0x0),)),
        Register("TX_PACKETS", 0x00A0, 64, (Field("COUNT", 0, 64, Access.RO, reset=0x0),)),
        Register("TX_BYTES", 0x00A8, 64, (Field("COUNT", 0, 64, Access.RO, reset=0x0),)),
        Register("TX_ERRORS", 0x00B0, 64, (Field("COUNT", 0, 64, Access.RO, reset=0x0),)),
        Register("INTERRUPTS", 0x00B8, 64, (Field("COUNT", 0, 64, Access.RO, reset=0x0),)),
    ),
    queue_base=0x1000,
    queue_stride=DMABED_QP_STRIDE,
    queues_max=DMABED_QP_MAX,
)
