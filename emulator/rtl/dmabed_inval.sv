// SPDX-License-Identifier: MIT
//
// Invalidate requests, from acceptance to completion (rules R-2 to R-8).
//
// One cycle takes a request: cache entries go, translations under way are marked, and the tags of
// reads that carry a stale address are noted as what to wait for. There is a place for each of the
// 32 ITags, so acceptance never depends on anything that is to be sent. A request is complete when
// its tags are; its completion then enters the posted queue behind every write that used the old
// translation, in their traffic class. Completions that are due together share one message.

module dmabed_inval
  import dmabed_tlp_pkg::*;
#(
    parameter int TAGS = 16,
    parameter int MUTANT = 0
) (
    input  logic              clk,
    input  logic              rst,
    input  logic [4:0]        stu,
    input  logic [15:0]       requester,

    input  logic              req_valid,     // one cycle, always taken
    input  rx_header_t        req_header,
    input  logic [63:0]       req_body,      // bytes in memory order

    output inv_range_t        range,         // in the cycle of req_valid
    input  logic [TAGS-1:0]   stale_tags,    // reads in flight that `range` concerns
    input  logic [TAGS-1:0]   live_tags,     // reads in flight

    output logic              cpl_valid,
    output tx_header_t        cpl_header,
    input  logic              cpl_ready,
    output logic [31:0]       pending
);

  logic [63:0] body;
  logic [51:0] coded, stu_mask;
  assign body = MUTANT == 4 ? req_body : big_endian(req_body);
  assign coded = range_mask(body[63:12], body[11]);
  assign stu_mask = ~(52'hf_ffff_ffff_ffff << stu);
  assign range.mask = (MUTANT == 5 ? coded >> 1 : coded) | stu_mask;
  assign range.page = body[63:12];
  assign range.pasid_valid = req_header.pasid_valid;
  assign range.pasid = req_header.pasid;
  assign range.all_pasids = body[0];

  logic [31:0] valid, due;
  logic [TAGS-1:0] blocked_by[32];
  logic [15:0] askers[32];

  for (genvar i = 0; i < 32; i++) begin : gen_due
    assign due[i] = valid[i] && blocked_by[i] == '0;
  end

  // The lowest one due, and all others that are due to the same asker.
  logic [4:0] first;
  logic [31:0] group;
  always @(*) begin
    first = '0;
    for (int i = 31; i >= 0; i--) if (due[i]) first = 5'(i);
    for (int i = 0; i < 32; i++) group[i] = due[i] && askers[i] == askers[first];
  end

  assign cpl_valid = due != '0;
  assign pending = valid;
  always @(*) begin
    cpl_header = '0;
    cpl_header.kind = TX_INV_CPL;
    cpl_header.tc = MUTANT == 7 ? 3'd3 : 3'd0;
    cpl_header.requester = requester;
    cpl_header.itags = group;
    cpl_header.addr = {29'd0, 3'd1, askers[first], 16'd0};
  end

  always_ff @(posedge clk) begin
    for (int i = 0; i < 32; i++) blocked_by[i] <= blocked_by[i] & live_tags;
    if (cpl_valid && cpl_ready) valid <= valid & ~group;
    if (req_valid) begin
      valid[req_header.itag] <= 1'b1;
      askers[req_header.itag] <= req_header.requester;
      blocked_by[req_header.itag] <= (MUTANT == 1 || MUTANT == 2) ? '0 : stale_tags;
    end
    if (rst) valid <= '0;
  end

endmodule
