// SPDX-License-Identifier: MIT
//
// The registers outside the queue pairs, the events behind vector 0 and the record of refused DMA.
// Offsets, fields and reset values come from dmabed_pkg, which is generated from registers.rdl.

module dmabed_regs #(
    parameter int QUEUES = 1,
    parameter int RING_LOG2_MIN = 6,
    parameter int RING_LOG2_MAX = 12,
    parameter int FRAME_BYTES = 9018,
    parameter int SPEED_MBPS = 10000
) (
    input  logic        clk,
    input  logic        rst,             // power-on or function-level reset
    input  logic        soft_rst,        // the end of CTRL.reset
    input  logic [47:0] power_on_mac,    // byte 0 is bits 7:0

    input  logic        write,
    input  logic [15:0] write_addr,
    input  logic [31:0] write_data,
    input  logic [15:0] read_addr,
    output logic [31:0] read_data,

    input  logic        link_up,
    output logic        reset_asked,
    input  logic        ready,
    output logic        enable,
    output logic [15:0] max_frame,
    output logic [47:0] mac,
    output logic        promisc,
    output logic        allmulti,
    output logic [7:0]  rss_queues,
    output logic [31:0] note,

    input  logic        ring_fault,
    input  logic        dma_fault,
    input  logic [7:0]  fault_queue,
    input  logic [3:0]  fault_stage,
    input  logic        fault_tx,
    input  logic        fault_write,
    input  logic [63:0] fault_iova,
    output logic        raise            // vector 0
);

  import dmabed_pkg::*;

  event_t pending, events_now, cleared;
  event_mask_t mask;
  fault_info_t info;
  logic [63:0] iova;
  logic link_was, wr_event, forget;

  assign wr_event = write && write_addr == EVENT;
  always @(*) begin
    events_now = '0;
    events_now.link = link_up != link_was;
    events_now.dma_fault = dma_fault;
    events_now.ring_fault = ring_fault;
    cleared = wr_event ? pending & ~write_data : pending;
  end
  assign raise = (events_now & ~cleared & mask) != '0;
  assign forget = wr_event && write_data[1];

  assign reset_asked = write && write_addr == CTRL && write_data[1];

  caps_t caps;
  status_t status;
  always @(*) begin
    caps = '0;
    caps.vectors = 8'(QUEUES + 1);
    caps.ring_log2_min = 8'(RING_LOG2_MIN);
    caps.ring_log2_max = 8'(RING_LOG2_MAX);
    caps.queues = 8'(QUEUES);
    status = '0;
    status.link_up = link_up;
    status.ready = ready;
  end

  always @(*) begin
    case (read_addr)
      ID: read_data = ID_RESET;
      VERSION: read_data = VERSION_RESET;
      CAPS: read_data = caps;
      FRAME_CAP: read_data = 32'(FRAME_BYTES);
      CTRL: read_data = {31'd0, enable};
      STATUS: read_data = status;
      SPEED: read_data = link_up ? 32'(SPEED_MBPS) : '0;
      MAX_FRAME: read_data = {16'd0, max_frame};
      MAC_LO: read_data = mac[31:0];
      MAC_HI: read_data = {16'd0, mac[47:32]};
      RX_FILTER: read_data = {30'd0, allmulti, promisc};
      RSS_QUEUES: read_data = {24'd0, rss_queues};
      EVENT: read_data = pending;
      EVENT_MASK: read_data = mask;
      FAULT_IOVA_LO: read_data = iova[31:0];
      FAULT_IOVA_HI: read_data = iova[63:32];
      FAULT_INFO: read_data = info;
      NOTE: read_data = note;
      default: read_data = '0;
    endcase
  end

  // The first refusal is kept, all are counted, up to the counter's end.
  always_ff @(posedge clk) begin
    if (forget) begin
      info <= '0;
      iova <= '0;
    end
    if (dma_fault) begin
      if (info.count == '0 || forget) begin
        info <= {16'd1, 2'd0, fault_write, fault_tx, fault_stage, fault_queue};
        iova <= fault_iova;
      end else if (info.count != '1) info.count <= info.count + 1'b1;
    end
    if (rst || soft_rst) begin
      info <= '0;
      iova <= '0;
    end
  end

  function automatic logic [15:0] at_most(input logic [15:0] value, input int limit);
    at_most = int'(value) > limit ? 16'(limit) : value;
  endfunction

  always_ff @(posedge clk) begin
    link_was <= link_up;
    pending <= cleared | events_now;
    if (write && ready) begin
      case (write_addr)
        CTRL: enable <= write_data[0];
        MAX_FRAME: max_frame <= at_most(write_data[15:0], FRAME_BYTES);
        MAC_LO: mac[31:0] <= write_data;
        MAC_HI: mac[47:32] <= write_data[15:0];
        RX_FILTER: {allmulti, promisc} <= write_data[1:0];
        RSS_QUEUES: rss_queues <= 8'(at_most({8'd0, write_data[7:0]}, QUEUES));
        EVENT_MASK: mask <= write_data & 32'h7;
        NOTE: note <= write_data;
        default: ;
      endcase
    end
    if (rst || soft_rst) begin
      pending <= '0;
      mask <= '0;
      enable <= CTRL_RESET[0];
      max_frame <= MAX_FRAME_RESET[15:0];
      {allmulti, promisc} <= RX_FILTER_RESET[1:0];
      rss_queues <= RSS_QUEUES_RESET[7:0];
      note <= NOTE_RESET;
    end
    if (rst) begin
      mac <= power_on_mac;
      link_was <= link_up;
    end
  end

endmodule
