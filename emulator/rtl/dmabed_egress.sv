// SPDX-License-Identifier: MIT
//
// What goes to the transaction layer, in an order that PCIe's ordering rules allow: posted requests
// (writes, interrupts, invalidate completions) keep their order; a read or translation request never passes
// a posted one that was queued before it; posted requests pass those while `np_credit` is low.
//
// A function-level reset throws away what is queued, at the end of the TLP that is on the port.

module dmabed_egress
  import dmabed_tlp_pkg::*;
#(
    parameter int MPS_MAX = 512,
    parameter int MUTANT = 0
) (
    input  logic           clk,
    input  logic           rst,

    input  logic           posted_push,
    input  tx_header_t     posted_header,
    output logic           posted_ready,     // room for a header and the largest payload
    input  logic           data_push,
    input  logic [BEAT_BITS-1:0] data_word,

    input  logic           np_push,
    input  tx_header_t     np_header,
    output logic           np_ready,

    input  logic           message_valid,    // invalidate completions, behind what is queued
    input  tx_header_t     message_header,
    output logic           message_ready,

    output logic           memory_idle,      // nothing but messages is queued
    output logic           boundary,         // no TLP is on the port after this cycle

    output logic           tx_tvalid,
    input  logic           tx_tready,
    output logic [BEAT_BITS-1:0] tx_tdata,
    output logic           tx_tlast,
    output tx_header_t     tx_tuser,
    input  logic           np_credit
);

  localparam int HEADERS_LOG2 = 4;
  localparam int DATA_LOG2 = $clog2(2 * MPS_MAX / BEAT_BYTES);
  localparam int HEADER = $bits(tx_header_t);

  logic [HEADERS_LOG2:0] posted_count, np_count;
  logic [DATA_LOG2:0] data_count;
  // Posted requests that entered and left, modulo 2^32.
  logic [31:0] posted_in_count, posted_out_count;
  logic posted_pop, np_pop, data_pop, enter_message;
  tx_header_t posted_head, np_head, posted_in;
  logic [31:0] np_behind;      // posted requests to go before the read at the head
  logic [BEAT_BITS-1:0] data_head;

  // Mutant 1: a message waits for nothing, not even for the writes before it.
  logic express, taken;
  assign express = MUTANT == 1 && message_valid;

  typedef enum logic [1:0] {NONE, POSTED, READ, EXPRESS} choice_e;
  choice_e choice, held;

  // A write has the queue in the cycle of its push, a message in any other.
  assign enter_message = message_valid && !express && !posted_push
      && posted_count < (HEADERS_LOG2+1)'((1 << HEADERS_LOG2) - 1);
  assign message_ready = express ? taken && choice == EXPRESS : enter_message;
  assign posted_in = posted_push ? posted_header : message_header;
  assign posted_ready = posted_count < (HEADERS_LOG2+1)'((1 << HEADERS_LOG2) - 1)
      && data_count <= (DATA_LOG2+1)'((1 << DATA_LOG2) - MPS_MAX / BEAT_BYTES);
  assign np_ready = np_count < (HEADERS_LOG2+1)'((1 << HEADERS_LOG2) - 1);

  dmabed_fifo #(.WIDTH(HEADER), .DEPTH_LOG2(HEADERS_LOG2)) posted_queue (
      .clk, .rst, .push(posted_push || enter_message), .push_data(posted_in),
      .pop(posted_pop), .head(posted_head), .count(posted_count));

  dmabed_fifo #(.WIDTH(BEAT_BITS), .DEPTH_LOG2(DATA_LOG2)) data_queue (
      .clk, .rst, .push(data_push), .push_data(data_word),
      .pop(data_pop), .head(data_head), .count(data_count));

  dmabed_fifo #(.WIDTH(HEADER + 32), .DEPTH_LOG2(HEADERS_LOG2)) np_queue (
      .clk, .rst, .push(np_push), .push_data({posted_in_count, np_header}),
      .pop(np_pop), .head({np_behind, np_head}), .count(np_count));

  logic [31:0] still_before;
  logic np_may;
  assign still_before = np_behind - posted_out_count;
  assign np_may = np_count != 0 && np_credit && (still_before == '0 || still_before[31]);

  // Once offered, a TLP stays until it is taken.
  logic hold;
  logic posted_may;
  assign posted_may = posted_count != 0 && (posted_head.kind == TX_INV_CPL || data_count != 0);
  always @(*) begin
    choice = NONE;
    if (hold) choice = held;
    else if (express) choice = EXPRESS;
    else if (np_may) choice = READ;
    else if (posted_may) choice = POSTED;
  end

  logic [8:0] beat, beats;
  assign beats = 9'((posted_head.len + 13'd15) >> 4);
  assign tx_tvalid = choice == POSTED ? posted_may : choice != NONE;
  assign tx_tlast = choice != POSTED || posted_head.kind == TX_INV_CPL || beat + 9'd1 == beats;
  assign tx_tdata = choice == POSTED && posted_head.kind == TX_WRITE ? data_head : '0;
  always @(*) begin
    tx_tuser = posted_head;
    if (choice == READ) tx_tuser = np_head;
    if (choice == EXPRESS) tx_tuser = message_header;
    if (choice == NONE) tx_tuser = '0;
  end

  assign taken = tx_tvalid && tx_tready;
  assign posted_pop = taken && tx_tlast && choice == POSTED;
  assign data_pop = taken && choice == POSTED && posted_head.kind == TX_WRITE;
  assign np_pop = taken && choice == READ;
  assign boundary = choice == NONE || (taken && tx_tlast);
  assign memory_idle = np_count == 0 && data_count == 0 && !posted_push && !np_push;

  always_ff @(posedge clk) begin
    hold <= choice != NONE && !(taken && tx_tlast);
    held <= choice;
    if (taken) beat <= tx_tlast ? '0 : beat + 1'b1;
    if (posted_push || enter_message) posted_in_count <= posted_in_count + 1'b1;
    if (posted_pop) posted_out_count <= posted_out_count + 1'b1;
    if (rst) begin
      hold <= 1'b0;
      beat <= '0;
      posted_in_count <= '0;
      posted_out_count <= '0;
    end
  end

endmodule
