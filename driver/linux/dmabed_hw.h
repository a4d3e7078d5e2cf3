/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/*
 * Registers, descriptors and completions of the dmabed NIC.
 *
 * Generated from emulator/nic/registers.rdl and emulator/nic/descriptors.py;
 * change those and run: python -m emulator.nic.generate
 */
#ifndef DMABED_HW_H
#define DMABED_HW_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/types.h>

/* PCI identity */
#define DMABED_PCI_VENDOR			0x1234
#define DMABED_PCI_DEVICE			0xdbed

/* MSI-X vectors */
#define DMABED_VECTOR_EVENT			0
#define DMABED_VECTOR_QP(q)			(1 + (q))

/* Identity */
#define DMABED_ID				0x0000
#define DMABED_ID_MAGIC				GENMASK(31, 0)
#define DMABED_ID_MAGIC_VALUE			0x44424544

/* Interface version */
#define DMABED_VERSION				0x0004
#define DMABED_VERSION_MINOR			GENMASK(15, 0)
#define DMABED_VERSION_MINOR_VALUE		0
#define DMABED_VERSION_MAJOR			GENMASK(31, 16)
#define DMABED_VERSION_MAJOR_VALUE		1

/* Capabilities */
#define DMABED_CAPS				0x0008
#define DMABED_CAPS_QUEUES			GENMASK(7, 0)
#define DMABED_CAPS_RING_LOG2_MAX		GENMASK(15, 8)
#define DMABED_CAPS_RING_LOG2_MIN		GENMASK(23, 16)
#define DMABED_CAPS_VECTORS			GENMASK(31, 24)

/* Largest frame the device can carry */
#define DMABED_FRAME_CAP			0x000c
#define DMABED_FRAME_CAP_BYTES			GENMASK(15, 0)

/* Control */
#define DMABED_CTRL				0x0010
#define DMABED_CTRL_ENABLE			BIT(0)
#define DMABED_CTRL_RESET			BIT(1)

/* Status */
#define DMABED_STATUS				0x0014
#define DMABED_STATUS_READY			BIT(0)
#define DMABED_STATUS_LINK_UP			BIT(1)

/* Link speed */
#define DMABED_SPEED				0x0018
#define DMABED_SPEED_MBPS			GENMASK(31, 0)

/* Largest frame accepted */
#define DMABED_MAX_FRAME			0x001c
#define DMABED_MAX_FRAME_BYTES			GENMASK(15, 0)

/* MAC address, bytes 0 to 3 */
#define DMABED_MAC_LO				0x0020
#define DMABED_MAC_LO_BYTES			GENMASK(31, 0)

/* MAC address, bytes 4 and 5 */
#define DMABED_MAC_HI				0x0024
#define DMABED_MAC_HI_BYTES			GENMASK(15, 0)

/* Receive filter */
#define DMABED_RX_FILTER			0x0028
#define DMABED_RX_FILTER_PROMISC		BIT(0)
#define DMABED_RX_FILTER_ALLMULTI		BIT(1)

/* Receive queues in use */
#define DMABED_RSS_QUEUES			0x002c
#define DMABED_RSS_QUEUES_COUNT			GENMASK(7, 0)

/* Events pending */
#define DMABED_EVENT				0x0030
#define DMABED_EVENT_LINK			BIT(0)
#define DMABED_EVENT_DMA_FAULT			BIT(1)
#define DMABED_EVENT_RING_FAULT			BIT(2)

/* Events that raise vector 0 */
#define DMABED_EVENT_MASK			0x0034
#define DMABED_EVENT_MASK_LINK			BIT(0)
#define DMABED_EVENT_MASK_DMA_FAULT		BIT(1)
#define DMABED_EVENT_MASK_RING_FAULT		BIT(2)

/* First refused DMA: IOVA, low half */
#define DMABED_FAULT_IOVA_LO			0x0038
#define DMABED_FAULT_IOVA_LO_IOVA		GENMASK(31, 0)

/* First refused DMA: IOVA, high half */
#define DMABED_FAULT_IOVA_HI			0x003c
#define DMABED_FAULT_IOVA_HI_IOVA		GENMASK(31, 0)

/* First refused DMA: what it was */
#define DMABED_FAULT_INFO			0x0040
#define DMABED_FAULT_INFO_QUEUE			GENMASK(7, 0)
#define DMABED_FAULT_INFO_STAGE			GENMASK(11, 8)
#define DMABED_FAULT_INFO_TX			BIT(12)
#define DMABED_FAULT_INFO_WRITE			BIT(13)
#define DMABED_FAULT_INFO_COUNT			GENMASK(31, 16)

/* Driver's note */
#define DMABED_NOTE				0x0044
#define DMABED_NOTE_VALUE			GENMASK(31, 0)

/* Queue pairs: offsets below are within a pair */
#define DMABED_QP_MAX				16
#define DMABED_QP_STRIDE			0x0100
#define DMABED_QP_BASE(q)			(0x1000 + (q) * DMABED_QP_STRIDE)

/* Receive descriptor ring: IOVA, low half */
#define DMABED_QP_RX_RING_LO			0x0000
#define DMABED_QP_RX_RING_LO_IOVA		GENMASK(31, 0)

/* Receive descriptor ring: IOVA, high half */
#define DMABED_QP_RX_RING_HI			0x0004
#define DMABED_QP_RX_RING_HI_IOVA		GENMASK(31, 0)

/* Receive completion ring: IOVA, low half */
#define DMABED_QP_RX_CQ_LO			0x0008
#define DMABED_QP_RX_CQ_LO_IOVA			GENMASK(31, 0)

/* Receive completion ring: IOVA, high half */
#define DMABED_QP_RX_CQ_HI			0x000c
#define DMABED_QP_RX_CQ_HI_IOVA			GENMASK(31, 0)

/* Receive ring size */
#define DMABED_QP_RX_SIZE			0x0010
#define DMABED_QP_RX_SIZE_LOG2			GENMASK(3, 0)

/* Receive ring control */
#define DMABED_QP_RX_CTRL			0x0014
#define DMABED_QP_RX_CTRL_ENABLE		BIT(0)
#define DMABED_QP_RX_CTRL_RUNNING		BIT(1)

/* Interrupt moderation of the pair's vector */
#define DMABED_QP_MODERATION			0x0018
#define DMABED_QP_MODERATION_USECS		GENMASK(15, 0)
#define DMABED_QP_MODERATION_FRAMES		GENMASK(31, 16)

/* Receive doorbell */
#define DMABED_QP_RX_TAIL			0x0020
#define DMABED_QP_RX_TAIL_POSTED		GENMASK(31, 0)

/* Transmit doorbell */
#define DMABED_QP_TX_TAIL			0x0024
#define DMABED_QP_TX_TAIL_POSTED		GENMASK(31, 0)

/* Interrupt arm */
#define DMABED_QP_ARM				0x0028
#define DMABED_QP_ARM_RX_SEEN			GENMASK(15, 0)
#define DMABED_QP_ARM_TX_SEEN			GENMASK(31, 16)

/* Receive descriptors consumed */
#define DMABED_QP_RX_HEAD			0x0030
#define DMABED_QP_RX_HEAD_COUNT			GENMASK(31, 0)

/* Transmit descriptors consumed */
#define DMABED_QP_TX_HEAD			0x0034
#define DMABED_QP_TX_HEAD_COUNT			GENMASK(31, 0)

/* Transmit descriptor ring: IOVA, low half */
#define DMABED_QP_TX_RING_LO			0x0040
#define DMABED_QP_TX_RING_LO_IOVA		GENMASK(31, 0)

/* Transmit descriptor ring: IOVA, high half */
#define DMABED_QP_TX_RING_HI			0x0044
#define DMABED_QP_TX_RING_HI_IOVA		GENMASK(31, 0)

/* Transmit completion ring: IOVA, low half */
#define DMABED_QP_TX_CQ_LO			0x0048
#define DMABED_QP_TX_CQ_LO_IOVA			GENMASK(31, 0)

/* Transmit completion ring: IOVA, high half */
#define DMABED_QP_TX_CQ_HI			0x004c
#define DMABED_QP_TX_CQ_HI_IOVA			GENMASK(31, 0)

/* Transmit ring size */
#define DMABED_QP_TX_SIZE			0x0050
#define DMABED_QP_TX_SIZE_LOG2			GENMASK(3, 0)

/* Transmit ring control */
#define DMABED_QP_TX_CTRL			0x0054
#define DMABED_QP_TX_CTRL_ENABLE		BIT(0)
#define DMABED_QP_TX_CTRL_RUNNING		BIT(1)

/* Frames received */
#define DMABED_QP_RX_PACKETS			0x0080
#define DMABED_QP_RX_PACKETS_COUNT		GENMASK_ULL(63, 0)

/* Bytes received */
#define DMABED_QP_RX_BYTES			0x0088
#define DMABED_QP_RX_BYTES_COUNT		GENMASK_ULL(63, 0)

/* Frames dropped for want of descriptors */
#define DMABED_QP_RX_DROPS			0x0090
#define DMABED_QP_RX_DROPS_COUNT		GENMASK_ULL(63, 0)

/* Frames dropped: too long, or a DMA was refused */
#define DMABED_QP_RX_ERRORS			0x0098
#define DMABED_QP_RX_ERRORS_COUNT		GENMASK_ULL(63, 0)

/* Frames sent */
#define DMABED_QP_TX_PACKETS			0x00a0
#define DMABED_QP_TX_PACKETS_COUNT		GENMASK_ULL(63, 0)

/* Bytes sent */
#define DMABED_QP_TX_BYTES			0x00a8
#define DMABED_QP_TX_BYTES_COUNT		GENMASK_ULL(63, 0)

/* Frames not sent: bad descriptor, or a DMA was refused */
#define DMABED_QP_TX_ERRORS			0x00b0
#define DMABED_QP_TX_ERRORS_COUNT		GENMASK_ULL(63, 0)

/* Interrupts raised */
#define DMABED_QP_INTERRUPTS			0x00b8
#define DMABED_QP_INTERRUPTS_COUNT		GENMASK_ULL(63, 0)

/**
 * struct dmabed_rx_desc - rx desc ring entry
 * @addr: IOVA of the first byte the device may write
 * @len: bytes the device may write from there; 0 is refused
 * @id: chosen by the driver, returned in the completion
 * @rsvd: zero
 *
 * A buffer the device may fill.
 */
struct dmabed_rx_desc {
	__le64 addr;
	__le16 len;
	__le16 id;
	__le32 rsvd;
};

static_assert(sizeof(struct dmabed_rx_desc) == 16);

/**
 * struct dmabed_tx_desc - tx desc ring entry
 * @addr: IOVA of the first byte
 * @len: bytes from there; 0 is refused
 * @id: of the last piece: returned in the completion
 * @flags: see the bits
 *
 * A piece of a frame to send.
 */
struct dmabed_tx_desc {
	__le64 addr;
	__le16 len;
	__le16 id;
	__le32 flags;
};

static_assert(sizeof(struct dmabed_tx_desc) == 16);

/* last piece of the frame */
#define DMABED_TX_DESC_FLAGS_EOP		BIT(0)

/**
 * struct dmabed_completion - completion ring entry
 * @hash: receive: flow hash; transmit: 0
 * @len: receive: bytes written to this buffer; transmit: descriptors used
 * @id: of the descriptor (transmit: of the last one)
 * @frame_len: bytes of the whole frame
 * @status: see the bits
 *
 * Written by the device: one per receive descriptor, one per transmitted
 * frame. The status word is written last; its phase bit tells new from old.
 */
struct dmabed_completion {
	__le32 hash;
	__le16 len;
	__le16 id;
	__le32 frame_len;
	__le32 status;
};

static_assert(sizeof(struct dmabed_completion) == 16);

/* 1 in the first pass through the ring, then 0, 1, ... */
#define DMABED_COMPLETION_STATUS_PHASE		BIT(0)
/* last buffer of the frame */
#define DMABED_COMPLETION_STATUS_EOP		BIT(1)
/* first buffer of the frame */
#define DMABED_COMPLETION_STATUS_SOP		BIT(2)
/* the frame is not to be used: a DMA for it was refused; set in all its buffers */
#define DMABED_COMPLETION_STATUS_ERROR		BIT(3)

#endif /* DMABED_HW_H */
