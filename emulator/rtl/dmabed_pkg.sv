// SPDX-License-Identifier: GPL-2.0 OR MIT
//
// Registers, descriptors and completions of the dmabed NIC.
//
// Generated from emulator/nic/registers.rdl and emulator/nic/descriptors.py;
// change those and run: python -m emulator.nic.generate

package dmabed_pkg;

  localparam logic [15:0] PCI_VENDOR = 16'h1234;
  localparam logic [15:0] PCI_DEVICE = 16'hdbed;

  // Identity
  localparam logic [15:0] ID = 16'h0000;
  localparam logic [31:0] ID_RESET = 32'h44424544;
  typedef struct packed {
    logic [31:0] magic;
  } id_t;

  // Interface version
  localparam logic [15:0] VERSION = 16'h0004;
  localparam logic [31:0] VERSION_RESET = 32'h00010000;
  typedef struct packed {
    logic [15:0] major;
    logic [15:0] minor;
  } version_t;

  // Capabilities
  localparam logic [15:0] CAPS = 16'h0008;
  localparam logic [31:0] CAPS_RESET = 32'h00000000;
  typedef struct packed {
    logic [7:0] vectors;
    logic [7:0] ring_log2_min;
    logic [7:0] ring_log2_max;
    logic [7:0] queues;
  } caps_t;

  // Largest frame the device can carry
  localparam logic [15:0] FRAME_CAP = 16'h000c;
  localparam logic [31:0] FRAME_CAP_RESET = 32'h00000000;
  typedef struct packed {
    logic [15:0] reserved0;
    logic [15:0] bytes;
  } frame_cap_t;

  // Control
  localparam logic [15:0] CTRL = 16'h0010;
  localparam logic [31:0] CTRL_RESET = 32'h00000000;
  typedef struct packed {
    logic [29:0] reserved0;
    logic reset;
    logic enable;
  } ctrl_t;

  // Status
  localparam logic [15:0] STATUS = 16'h0014;
  localparam logic [31:0] STATUS_RESET = 32'h00000001;
  typedef struct packed {
    logic [29:0] reserved0;
    logic link_up;
    logic ready;
  } status_t;

  // Link speed
  localparam logic [15:0] SPEED = 16'h0018;
  localparam logic [31:0] SPEED_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] mbps;
  } speed_t;

  // Largest frame accepted
  localparam logic [15:0] MAX_FRAME = 16'h001c;
  localparam logic [31:0] MAX_FRAME_RESET = 32'h000005ee;
  typedef struct packed {
    logic [15:0] reserved0;
    logic [15:0] bytes;
  } max_frame_t;

  // MAC address, bytes 0 to 3
  localparam logic [15:0] MAC_LO = 16'h0020;
  localparam logic [31:0] MAC_LO_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] bytes;
  } mac_lo_t;

  // MAC address, bytes 4 and 5
  localparam logic [15:0] MAC_HI = 16'h0024;
  localparam logic [31:0] MAC_HI_RESET = 32'h00000000;
  typedef struct packed {
    logic [15:0] reserved0;
    logic [15:0] bytes;
  } mac_hi_t;

  // Receive filter
  localparam logic [15:0] RX_FILTER = 16'h0028;
  localparam logic [31:0] RX_FILTER_RESET = 32'h00000000;
  typedef struct packed {
    logic [29:0] reserved0;
    logic allmulti;
    logic promisc;
  } rx_filter_t;

  // Receive queues in use
  localparam logic [15:0] RSS_QUEUES = 16'h002c;
  localparam logic [31:0] RSS_QUEUES_RESET = 32'h00000001;
  typedef struct packed {
    logic [23:0] reserved0;
    logic [7:0] count;
  } rss_queues_t;

  // Events pending
  localparam logic [15:0] EVENT = 16'h0030;
  localparam logic [31:0] EVENT_RESET = 32'h00000000;
  typedef struct packed {
    logic [28:0] reserved0;
    logic ring_fault;
    logic dma_fault;
    logic link;
  } event_t;

  // Events that raise vector 0
  localparam logic [15:0] EVENT_MASK = 16'h0034;
  localparam logic [31:0] EVENT_MASK_RESET = 32'h00000000;
  typedef struct packed {
    logic [28:0] reserved0;
    logic ring_fault;
    logic dma_fault;
    logic link;
  } event_mask_t;

  // First refused DMA: IOVA, low half
  localparam logic [15:0] FAULT_IOVA_LO = 16'h0038;
  localparam logic [31:0] FAULT_IOVA_LO_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } fault_iova_lo_t;

  // First refused DMA: IOVA, high half
  localparam logic [15:0] FAULT_IOVA_HI = 16'h003c;
  localparam logic [31:0] FAULT_IOVA_HI_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } fault_iova_hi_t;

  // First refused DMA: what it was
  localparam logic [15:0] FAULT_INFO = 16'h0040;
  localparam logic [31:0] FAULT_INFO_RESET = 32'h00000000;
  typedef struct packed {
    logic [15:0] count;
    logic [1:0] reserved0;
    logic write;
    logic tx;
    logic [3:0] stage;
    logic [7:0] queue;
  } fault_info_t;

  // Driver's note
  localparam logic [15:0] NOTE = 16'h0044;
  localparam logic [31:0] NOTE_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] value;
  } note_t;

  // Queue pairs: offsets below are within a pair
  localparam int QP_MAX = 16;
  localparam logic [15:0] QP_BASE = 16'h1000;
  localparam logic [15:0] QP_STRIDE = 16'h0100;

  // Receive descriptor ring: IOVA, low half
  localparam logic [15:0] QP_RX_RING_LO = 16'h0000;
  localparam logic [31:0] QP_RX_RING_LO_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } qp_rx_ring_lo_t;

  // Receive descriptor ring: IOVA, high half
  localparam logic [15:0] QP_RX_RING_HI = 16'h0004;
  localparam logic [31:0] QP_RX_RING_HI_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } qp_rx_ring_hi_t;

  // Receive completion ring: IOVA, low half
  localparam logic [15:0] QP_RX_CQ_LO = 16'h0008;
  localparam logic [31:0] QP_RX_CQ_LO_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } qp_rx_cq_lo_t;

  // Receive completion ring: IOVA, high half
  localparam logic [15:0] QP_RX_CQ_HI = 16'h000c;
  localparam logic [31:0] QP_RX_CQ_HI_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } qp_rx_cq_hi_t;

  // Receive ring size
  localparam logic [15:0] QP_RX_SIZE = 16'h0010;
  localparam logic [31:0] QP_RX_SIZE_RESET = 32'h00000000;
  typedef struct packed {
    logic [27:0] reserved0;
    logic [3:0] log2;
  } qp_rx_size_t;

  // Receive ring control
  localparam logic [15:0] QP_RX_CTRL = 16'h0014;
  localparam logic [31:0] QP_RX_CTRL_RESET = 32'h00000000;
  typedef struct packed {
    logic [29:0] reserved0;
    logic running;
    logic enable;
  } qp_rx_ctrl_t;

  // Interrupt moderation of the pair's vector
  localparam logic [15:0] QP_MODERATION = 16'h0018;
  localparam logic [31:0] QP_MODERATION_RESET = 32'h00000000;
  typedef struct packed {
    logic [15:0] frames;
    logic [15:0] usecs;
  } qp_moderation_t;

  // Receive doorbell
  localparam logic [15:0] QP_RX_TAIL = 16'h0020;
  localparam logic [31:0] QP_RX_TAIL_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] posted;
  } qp_rx_tail_t;

  // Transmit doorbell
  localparam logic [15:0] QP_TX_TAIL = 16'h0024;
  localparam logic [31:0] QP_TX_TAIL_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] posted;
  } qp_tx_tail_t;

  // Interrupt arm
  localparam logic [15:0] QP_ARM = 16'h0028;
  localparam logic [31:0] QP_ARM_RESET = 32'h00000000;
  typedef struct packed {
    logic [15:0] tx_seen;
    logic [15:0] rx_seen;
  } qp_arm_t;

  // Receive descriptors consumed
  localparam logic [15:0] QP_RX_HEAD = 16'h0030;
  localparam logic [31:0] QP_RX_HEAD_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] count;
  } qp_rx_head_t;

  // Transmit descriptors consumed
  localparam logic [15:0] QP_TX_HEAD = 16'h0034;
  localparam logic [31:0] QP_TX_HEAD_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] count;
  } qp_tx_head_t;

  // Transmit descriptor ring: IOVA, low half
  localparam logic [15:0] QP_TX_RING_LO = 16'h0040;
  localparam logic [31:0] QP_TX_RING_LO_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } qp_tx_ring_lo_t;

  // Transmit descriptor ring: IOVA, high half
  localparam logic [15:0] QP_TX_RING_HI = 16'h0044;
  localparam logic [31:0] QP_TX_RING_HI_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } qp_tx_ring_hi_t;

  // Transmit completion ring: IOVA, low half
  localparam logic [15:0] QP_TX_CQ_LO = 16'h0048;
  localparam logic [31:0] QP_TX_CQ_LO_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } qp_tx_cq_lo_t;

  // Transmit completion ring: IOVA, high half
  localparam logic [15:0] QP_TX_CQ_HI = 16'h004c;
  localparam logic [31:0] QP_TX_CQ_HI_RESET = 32'h00000000;
  typedef struct packed {
    logic [31:0] iova;
  } qp_tx_cq_hi_t;

  // Transmit ring size
  localparam logic [15:0] QP_TX_SIZE = 16'h0050;
  localparam logic [31:0] QP_TX_SIZE_RESET = 32'h00000000;
  typedef struct packed {
    logic [27:0] reserved0;
    logic [3:0] log2;
  } qp_tx_size_t;

  // Transmit ring control
  localparam logic [15:0] QP_TX_CTRL = 16'h0054;
  localparam logic [31:0] QP_TX_CTRL_RESET = 32'h00000000;
  typedef struct packed {
    logic [29:0] reserved0;
    logic running;
    logic enable;
  } qp_tx_ctrl_t;

  // Frames received
  localparam logic [15:0] QP_RX_PACKETS = 16'h0080;
  localparam logic [63:0] QP_RX_PACKETS_RESET = 64'h0000000000000000;
  typedef struct packed {
    logic [63:0] count;
  } qp_rx_packets_t;

  // Bytes received
  localparam logic [15:0] QP_RX_BYTES = 16'h0088;
  localparam logic [63:0] QP_RX_BYTES_RESET = 64'h0000000000000000;
  typedef struct packed {
    logic [63:0] count;
  } qp_rx_bytes_t;

  // Frames dropped for want of descriptors
  localparam logic [15:0] QP_RX_DROPS = 16'h0090;
  localparam logic [63:0] QP_RX_DROPS_RESET = 64'h0000000000000000;
  typedef struct packed {
    logic [63:0] count;
  } qp_rx_drops_t;

  // Frames dropped: too long, or a DMA was refused
  localparam logic [15:0] QP_RX_ERRORS = 16'h0098;
  localparam logic [63:0] QP_RX_ERRORS_RESET = 64'h0000000000000000;
  typedef struct packed {
    logic [63:0] count;
  } qp_rx_errors_t;

  // Frames sent
  localparam logic [15:0] QP_TX_PACKETS = 16'h00a0;
  localparam logic [63:0] QP_TX_PACKETS_RESET = 64'h0000000000000000;
  typedef struct packed {
    logic [63:0] count;
  } qp_tx_packets_t;

  // Bytes sent
  localparam logic [15:0] QP_TX_BYTES = 16'h00a8;
  localparam logic [63:0] QP_TX_BYTES_RESET = 64'h0000000000000000;
  typedef struct packed {
    logic [63:0] count;
  } qp_tx_bytes_t;

  // Frames not sent: bad descriptor, or a DMA was refused
  localparam logic [15:0] QP_TX_ERRORS = 16'h00b0;
  localparam logic [63:0] QP_TX_ERRORS_RESET = 64'h0000000000000000;
  typedef struct packed {
    logic [63:0] count;
  } qp_tx_errors_t;

  // Interrupts raised
  localparam logic [15:0] QP_INTERRUPTS = 16'h00b8;
  localparam logic [63:0] QP_INTERRUPTS_RESET = 64'h0000000000000000;
  typedef struct packed {
    logic [63:0] count;
  } qp_interrupts_t;

  // A buffer the device may fill.
  // The last member here is the first in memory.
  typedef struct packed {
    logic [31:0] rsvd;
    logic [15:0] id;
    logic [15:0] len;
    logic [63:0] addr;
  } rx_desc_t;

  // A piece of a frame to send.
  // The last member here is the first in memory.
  typedef struct packed {
    logic [31:0] flags;
    logic [15:0] id;
    logic [15:0] len;
    logic [63:0] addr;
  } tx_desc_t;
  localparam int TX_DESC_FLAGS_EOP_BIT = 0;

  // Written by the device: one per receive descriptor, one per transmitted frame. The status
  // word is written last; its phase bit tells new from old.
  // The last member here is the first in memory.
  typedef struct packed {
    logic [31:0] status;
    logic [31:0] frame_len;
    logic [15:0] id;
    logic [15:0] len;
    logic [31:0] hash;
  } completion_t;
  localparam int COMPLETION_STATUS_PHASE_BIT = 0;
  localparam int COMPLETION_STATUS_EOP_BIT = 1;
  localparam int COMPLETION_STATUS_SOP_BIT = 2;
  localparam int COMPLETION_STATUS_ERROR_BIT = 3;

endpackage
