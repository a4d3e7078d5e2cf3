// SPDX-License-Identifier: MIT
//
// One ring: its counts, the fetch of descriptors, and where the next completion goes.
//
// Up to BATCH descriptors are fetched by one read, which stays within 128 bytes of memory. A ring
// that was told to stop counts as running until its fetch has come back and its engine is idle.

module dmabed_ring
  import dmabed_tlp_pkg::*;
#(
    parameter int RING_LOG2_MIN = 6,
    parameter int RING_LOG2_MAX = 12,
    parameter int BATCH = 8,
    parameter int READY_LOG2 = 4       // descriptors held at most, log2
) (
    input  logic          clk,
    input  logic          rst,

    // Registers
    input  logic          start,
    input  logic          stop,
    input  logic          doorbell,
    input  logic [31:0]   value,
    input  logic [63:0]   ring,
    input  logic [63:0]   cq,
    input  logic [3:0]    log2,
    output logic          active,
    output logic          running,
    output logic [31:0]   head,
    output logic [31:0]   completed,
    output logic          ring_fault,
    output logic          bad_length,   // with ring_fault: a descriptor of no bytes
    output logic          fetch_fault,

    // Engine
    input  logic          engine_idle,
    input  logic          halt,         // it cannot go on
    output logic          desc_valid,
    output logic [127:0]  desc,
    input  logic          desc_pop,
    input  logic [31:0]   used,         // with `complete`: descriptors that are used up by it
    input  logic          complete,
    output logic [63:0]   cq_addr,
    output logic          phase,
    output logic [31:0]   size,

    // Client
    output logic          req_valid,
    output dma_request_t  req,
    input  logic          granted,
    input  logic          refused,
    input  logic          rsp_valid,
    input  dma_response_t rsp
);

  logic [31:0] tail, fetched, ahead, mask;
  logic [READY_LOG2:0] ready;
  logic asking, busy;
  logic [3:0] count;

  assign size = 32'd1 << log2;
  assign mask = size - 32'd1;
  assign running = active || busy || !engine_idle;

  logic aligned, small_enough, startable;
  logic [64:0] ring_end, cq_end;
  assign ring_end = {1'b0, ring} + 65'({size, 4'd0}) - 65'd1;
  assign cq_end = {1'b0, cq} + 65'({size, 4'd0}) - 65'd1;
  assign aligned = ring[3:0] == '0 && cq[3:0] == '0 && !ring_end[64] && !cq_end[64];
  assign small_enough = log2 >= 4'(RING_LOG2_MIN) && log2 <= 4'(RING_LOG2_MAX);
  assign startable = aligned && small_enough;

  logic [31:0] new_tail;
  logic impossible;
  assign new_tail = value;
  assign impossible = doorbell && active && new_tail - head > size;
  assign bad_length = rsp_valid && active && rsp.count != '0 && rsp.data[79:64] == '0;
  assign ring_fault = (start && !running && !startable) || impossible || bad_length;
  assign fetch_fault = active && (refused || (rsp_valid && rsp.error));

  // How many to fetch: what is posted, what there is room for, to the end of the ring, to the
  // next multiple of 128 bytes.
  logic [63:0] fetch_addr;
  logic [31:0] to_wrap;
  logic [3:0] to_edge;
  logic [31:0] n;
  assign ahead = tail - fetched;
  assign fetch_addr = ring + 64'({fetched & mask, 4'd0});
  assign to_wrap = size - (fetched & mask);
  assign to_edge = 4'd8 - {1'b0, fetch_addr[6:4]};
  always @(*) begin
    n = ahead;
    if (n > 32'(BATCH)) n = 32'(BATCH);
    if (n > to_wrap) n = to_wrap;
    if (n > 32'(to_edge)) n = 32'(to_edge);
  end

  assign req_valid = active && asking;
  always @(*) begin
    req = '0;
    req.len = {5'd0, count, 4'd0};
    req.addr = fetch_addr;
  end

  logic fresh, came;
  assign fresh = rst || !active;
  assign came = rsp_valid && active && rsp.count != '0;
  dmabed_fifo #(.WIDTH(128), .DEPTH_LOG2(READY_LOG2)) ready_queue (
      .clk, .rst(fresh), .push(came),
      .push_data(rsp.data), .pop(desc_pop), .head(desc), .count(ready));
  assign desc_valid = active && ready != '0;

  assign cq_addr = cq + 64'({completed & mask, 4'd0});
  assign phase = (completed & size) == '0;

  always_ff @(posedge clk) begin
    if (start && !running && startable) begin
      active <= 1'b1;
      head <= '0;
      tail <= '0;
      fetched <= '0;
      completed <= '0;
    end
    if (doorbell && active && !impossible) tail <= new_tail;
    if (complete) begin
      completed <= completed + 1'b1;
      head <= head + used;
    end
    if (active && !busy && !asking && ahead != '0
        && ready <= (READY_LOG2+1)'((1 << READY_LOG2) - BATCH)) begin
      asking <= 1'b1;
      count <= n[3:0];
    end
    if (asking && (granted || refused || !active)) asking <= 1'b0;
    if (asking && granted) begin
      busy <= 1'b1;
      fetched <= fetched + 32'(count);
    end
    if (rsp_valid && rsp.last) busy <= 1'b0;
    if (stop || halt || impossible || bad_length || fetch_fault) active <= 1'b0;
    if (rst) begin
      active <= 1'b0;
      asking <= 1'b0;
      busy <= 1'b0;
      head <= '0;
      tail <= '0;
      fetched <= '0;
      completed <= '0;
    end
  end

endmodule
