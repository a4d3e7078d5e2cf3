// SPDX-License-Identifier: MIT
//
// The registers and statistics of one queue pair. Offsets and reset values: dmabed_pkg.

module dmabed_queue_regs (
    input  logic        clk,
    input  logic        rst,

    input  logic        write,
    input  logic [7:0]  write_addr,
    input  logic [31:0] write_data,
    input  logic        read,
    input  logic [7:0]  read_addr,
    output logic [31:0] read_data,

    // Rings: index 0 receives, 1 sends
    output logic [1:0]  start,
    output logic [1:0]  stop,
    output logic [1:0]  doorbell,
    output logic [31:0] value,           // what is being written
    output logic [127:0] ring,
    output logic [127:0] cq,
    output logic [7:0]  log2,
    input  logic [1:0]  active,
    input  logic [1:0]  running,
    input  logic [63:0] head,

    output logic [15:0] usecs,
    output logic [15:0] frames,
    output logic        arm,

    input  logic        rx_packet,
    input  logic        rx_drop,
    input  logic        rx_error,
    input  logic [31:0] rx_bytes,
    input  logic        tx_packet,
    input  logic        tx_error,
    input  logic [31:0] tx_bytes,
    input  logic        interrupt
);

  import dmabed_pkg::*;

  logic [15:0] at, from;
  assign at = {8'd0, write_addr};
  assign from = {8'd0, read_addr};
  assign value = write_data;
  assign start = {write && at == QP_TX_CTRL && write_data[0], write && at == QP_RX_CTRL && write_data[0]};
  assign stop = {write && at == QP_TX_CTRL && !write_data[0], write && at == QP_RX_CTRL && !write_data[0]};
  assign doorbell = {write && at == QP_TX_TAIL, write && at == QP_RX_TAIL};
  assign arm = write && at == QP_ARM;

  always_ff @(posedge clk) begin
    if (write && !running[0]) begin
      case (at)
        QP_RX_RING_LO: ring[31:0] <= write_data;
        QP_RX_RING_HI: ring[63:32] <= write_data;
        QP_RX_CQ_LO: cq[31:0] <= write_data;
        QP_RX_CQ_HI: cq[63:32] <= write_data;
        QP_RX_SIZE: log2[3:0] <= write_data[3:0];
        default: ;
      endcase
    end
    if (write && !running[1]) begin
      case (at)
        QP_TX_RING_LO: ring[95:64] <= write_data;
        QP_TX_RING_HI: ring[127:96] <= write_data;
        QP_TX_CQ_LO: cq[95:64] <= write_data;
        QP_TX_CQ_HI: cq[127:96] <= write_data;
        QP_TX_SIZE: log2[7:4] <= write_data[3:0];
        default: ;
      endcase
    end
    if (write && at == QP_MODERATION) {frames, usecs} <= write_data;
    if (rst) begin
      ring <= '0;
      cq <= '0;
      log2 <= '0;
      {frames, usecs} <= QP_MODERATION_RESET;
    end
  end

  // Statistics, in the order of their registers from QP_RX_PACKETS on.
  localparam int COUNTERS = 8;
  logic [63:0] counters[COUNTERS];
  logic [31:0] latched[COUNTERS];
  logic [2:0] which;
  logic statistic;
  assign which = read_addr[5:3];
  assign statistic = from >= QP_RX_PACKETS && from < QP_INTERRUPTS + 16'd8;

  always_ff @(posedge clk) begin
    counters[0] <= counters[0] + 64'(rx_packet);
    counters[1] <= counters[1] + (rx_packet ? 64'(rx_bytes) : '0);
    counters[2] <= counters[2] + 64'(rx_drop);
    counters[3] <= counters[3] + 64'(rx_error);
    counters[4] <= counters[4] + 64'(tx_packet);
    counters[5] <= counters[5] + (tx_packet ? 64'(tx_bytes) : '0);
    counters[6] <= counters[6] + 64'(tx_error);
    counters[7] <= counters[7] + 64'(interrupt);
    if (read && statistic && !read_addr[2]) latched[which] <= counters[which][63:32];
    if (rst) for (int i = 0; i < COUNTERS; i++) begin
      counters[i] <= '0;
      latched[i] <= '0;
    end
  end

  always @(*) begin
    case (from)
      QP_RX_RING_LO: read_data = ring[31:0];
      QP_RX_RING_HI: read_data = ring[63:32];
      QP_RX_CQ_LO: read_data = cq[31:0];
      QP_RX_CQ_HI: read_data = cq[63:32];
      QP_RX_SIZE: read_data = {28'd0, log2[3:0]};
      QP_RX_CTRL: read_data = {30'd0, running[0], active[0]};
      QP_MODERATION: read_data = {frames, usecs};
      QP_RX_HEAD: read_data = head[31:0];
      QP_TX_HEAD: read_data = head[63:32];
      QP_TX_RING_LO: read_data = ring[95:64];
      QP_TX_RING_HI: read_data = ring[127:96];
      QP_TX_CQ_LO: read_data = cq[95:64];
      QP_TX_CQ_HI: read_data = cq[127:96];
      QP_TX_SIZE: read_data = {28'd0, log2[7:4]};
      QP_TX_CTRL: read_data = {30'd0, running[1], active[1]};
      default: begin
        read_data = '0;
        if (statistic) read_data = read_addr[2] ? latched[which] : counters[which][31:0];
      end
    endcase
  end

endmodule
