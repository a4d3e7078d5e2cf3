// SPDX-License-Identifier: MIT
//
// One queue pair: registers, both rings, their engines and the moderation of their vector.
//
// Its clients of dmabed_dma, in order: receive descriptors, transmit descriptors, receive writes,
// transmit reads, transmit completions.

module dmabed_queue_pair
  import dmabed_tlp_pkg::*;
#(
    parameter int RING_LOG2_MIN = 6,
    parameter int RING_LOG2_MAX = 12,
    parameter int FRAME_BYTES = 9018,
    parameter int CLOCK_MHZ = 250,
    parameter int SLOTS_LOG2 = 3,
    parameter int MPS_MAX = 512,
    parameter int MRRS_MAX = 512
) (
    input  logic          clk,
    input  logic          rst,             // power-on, function-level reset, end of CTRL.reset
    input  logic          quiesce,         // CTRL.reset is under way
    output logic          idle,

    input  logic          write,
    input  logic [7:0]    write_addr,
    input  logic [31:0]   write_data,
    input  logic          read,
    input  logic [7:0]    read_addr,
    output logic [31:0]   read_data,

    input  logic          passing,
    input  logic [15:0]   max_frame,
    input  logic [2:0]    mps,
    input  logic [2:0]    mrrs,
    input  logic          pasid_valid,
    input  logic [19:0]   pasid,

    input  logic          s_rx_tvalid,
    output logic          s_rx_tready,
    input  logic [127:0]  s_rx_tdata,
    input  logic          s_rx_tlast,
    input  logic [47:0]   s_rx_tuser,
    output logic          m_tx_tvalid,
    input  logic          m_tx_tready,
    output logic [127:0]  m_tx_tdata,
    output logic [15:0]   m_tx_tkeep,
    output logic          m_tx_tlast,
    output logic          m_tx_tuser,

    output logic [4:0]    req_valid,
    output logic [5*$bits(dma_request_t)-1:0] req,
    output logic [5*BEAT_BITS-1:0] req_data,
    input  logic [4:0]    granted,
    input  logic [4:0]    refused,
    input  logic [4:0]    take_beat,
    input  logic [4:0]    rsp_valid,
    input  dma_response_t rsp,

    output logic          interrupt,
    output logic          ring_fault,
    output logic          dma_fault,
    output logic [3:0]    fault_stage,
    output logic          fault_tx,
    output logic          fault_write,
    output logic [63:0]   fault_iova
);

  logic [1:0] start, stop, doorbell, active, running, complete, halt, engine_idle;
  logic [1:0] bad_ring, bad_length, fetch_fault, desc_valid, desc_pop, phase;
  logic [31:0] value, used, rx_bytes, tx_bytes;
  logic [31:0] completed[2], size[2];
  logic [63:0] cq_addr[2];
  logic [127:0] ring, cq, desc[2];
  logic [63:0] head;
  logic [7:0] log2;
  logic [15:0] usecs, frames;
  logic arm, rx_packet, rx_drop, rx_error, tx_packet, tx_error, tx_engine_error;
  dma_request_t rx_fetch, tx_fetch, rx_req, tx_req, cpl_req;
  logic [2*$bits(dma_request_t)-1:0] fetch_req;
  logic [127:0] rx_data, cpl_data;
  logic endless, rx_fault, tx_fault;
  logic [3:0] rx_stage, tx_stage;
  logic [63:0] rx_iova, tx_iova;

  dmabed_queue_regs registers (
      .clk, .rst, .write, .write_addr, .write_data, .read, .read_addr, .read_data, .start, .stop,
      .doorbell, .value, .ring, .cq, .log2, .active, .running, .head, .usecs, .frames, .arm,
      .rx_packet, .rx_drop, .rx_error, .rx_bytes, .tx_packet, .tx_error, .tx_bytes, .interrupt);

  for (genvar s = 0; s < 2; s++) begin : gen_ring
    logic [31:0] used_up;
    logic stop_now, halt_now;
    assign used_up = s == 1 ? used : 32'd1;
    assign stop_now = stop[s] || quiesce;
    assign halt_now = halt[s] || (s == 1 && endless);
    dmabed_ring #(.RING_LOG2_MIN(RING_LOG2_MIN), .RING_LOG2_MAX(RING_LOG2_MAX)) ring_of_side (
        .clk, .rst, .start(start[s]), .stop(stop_now), .doorbell(doorbell[s]), .value,
        .ring(ring[s*64+:64]), .cq(cq[s*64+:64]), .log2(log2[s*4+:4]), .active(active[s]),
        .running(running[s]), .head(head[s*32+:32]), .completed(completed[s]),
        .ring_fault(bad_ring[s]), .bad_length(bad_length[s]), .fetch_fault(fetch_fault[s]),
        .engine_idle(engine_idle[s]), .halt(halt_now),
        .desc_valid(desc_valid[s]), .desc(desc[s]), .desc_pop(desc_pop[s]),
        .used(used_up), .complete(complete[s]), .cq_addr(cq_addr[s]),
        .phase(phase[s]), .size(size[s]), .req_valid(req_valid[s]), .req(fetch_req[s*$bits(dma_request_t)+:$bits(dma_request_t)]),
        .granted(granted[s]), .refused(refused[s]), .rsp_valid(rsp_valid[s]), .rsp);
  end

  dmabed_rx #(.MPS_MAX(MPS_MAX)) receiver (
      .clk, .rst, .passing, .max_frame, .mps, .pasid_valid, .pasid, .s_tvalid(s_rx_tvalid),
      .s_tready(s_rx_tready), .s_tdata(s_rx_tdata), .s_tlast(s_rx_tlast), .s_tuser(s_rx_tuser),
      .active(active[0]), .desc_valid(desc_valid[0]), .desc(desc[0]), .desc_pop(desc_pop[0]),
      .complete(complete[0]), .cq_addr(cq_addr[0]), .phase(phase[0]), .halt(halt[0]),
      .idle(engine_idle[0]), .req_valid(req_valid[2]), .req(rx_req), .req_data(rx_data),
      .granted(granted[2]), .refused(refused[2]), .take_beat(take_beat[2]), .packet(rx_packet),
      .drop(rx_drop), .error(rx_error), .packet_bytes(rx_bytes), .fault(rx_fault),
      .fault_stage(rx_stage), .fault_iova(rx_iova));

  dmabed_tx #(.SLOTS_LOG2(SLOTS_LOG2), .MRRS_MAX(MRRS_MAX), .FRAME_BYTES(FRAME_BYTES)) transmitter (
      .clk, .rst, .passing, .mrrs, .pasid_valid, .pasid, .m_tvalid(m_tx_tvalid),
      .m_tready(m_tx_tready), .m_tdata(m_tx_tdata), .m_tkeep(m_tx_tkeep), .m_tlast(m_tx_tlast),
      .m_tuser(m_tx_tuser), .active(active[1]), .size(size[1]), .desc_valid(desc_valid[1]),
      .desc(desc[1]), .desc_pop(desc_pop[1]), .complete(complete[1]), .used,
      .cq_addr(cq_addr[1]), .phase(phase[1]), .halt(halt[1]), .endless, .idle(engine_idle[1]),
      .read_valid(req_valid[3]), .read_req(tx_req), .read_granted(granted[3]),
      .read_refused(refused[3]), .rsp_valid(rsp_valid[3]), .rsp, .cpl_valid(req_valid[4]),
      .cpl_req, .cpl_data, .cpl_granted(granted[4]), .cpl_refused(refused[4]),
      .packet(tx_packet), .error(tx_engine_error), .packet_bytes(tx_bytes), .fault(tx_fault),
      .fault_stage(tx_stage), .fault_iova(tx_iova));

  assign {tx_fetch, rx_fetch} = fetch_req;
  assign req = {cpl_req, tx_req, rx_req, fetch_req};
  assign req_data = {cpl_data, 128'd0, rx_data, 256'd0};
  assign idle = running == '0;
  assign tx_error = tx_engine_error || bad_length[1];

  logic all_seen;
  assign all_seen = value == {completed[1][15:0], completed[0][15:0]};
  dmabed_moderation #(.CLOCK_MHZ(CLOCK_MHZ)) moderation (
      .clk, .rst, .settle(running == '0), .arm, .all_seen, .completed(complete), .usecs, .frames,
      .fire(interrupt));

  // One refusal is reported in a cycle; two at once count as one.
  assign ring_fault = bad_ring != '0 || endless;
  assign dma_fault = fetch_fault != '0 || rx_fault || tx_fault;
  always @(*) begin
    fault_stage = 4'd0;
    fault_tx = fetch_fault[1] && !fetch_fault[0];
    fault_write = 1'b0;
    fault_iova = fault_tx ? tx_fetch.addr : rx_fetch.addr;
    if (fetch_fault == '0 && rx_fault) begin
      fault_stage = rx_stage;
      fault_write = 1'b1;
      fault_iova = rx_iova;
    end else if (fetch_fault == '0) begin
      fault_stage = tx_stage;
      fault_tx = 1'b1;
      fault_write = tx_stage == 4'd2;
      fault_iova = tx_iova;
    end
  end

endmodule
