// SPDX-License-Identifier: MIT
//
// The translation side of the device TLB: one state machine per client, between the miss that made
// dmabed_issue send a translation request and the moment the client may try again.
//
//   IDLE --ask--> WAIT --granted--> IDLE    the cache has been filled; the client looks again
//                  |---overtaken--> IDLE    an invalidation came first: the result is thrown away
//                  |---refused----> DENIED  no access: the client is told, and the state ends
//                  `---U, error---> DIRECT  the next request of the client goes untranslated
//
// A client whose result is lost TRIES times in a row goes untranslated once as well, so a host that
// invalidates for ever cannot starve it: untranslated requests are always right.

module dmabed_ats
  import dmabed_tlp_pkg::*;
#(
    parameter int CLIENTS = 6,
    parameter int OUTSTANDING = 4,
    parameter int PAGES = 2,      // translations asked for at once: 1 or 2
    parameter int TRIES = 3,
    parameter int MUTANT = 0
) (
    input  logic                clk,
    input  logic                rst,
    input  logic                flush,       // ATS switched: what is asked for is not to be used
    input  logic [4:0]          stu,         // smallest translation unit: 4 KiB << stu

    // From dmabed_issue
    input  logic                ask,
    input  logic [7:0]          ask_client,
    input  page_key_t           ask_key,
    input  logic                ask_write,
    input  logic                done,        // the client's request was sent, or refused
    input  logic [7:0]          done_client,
    input  logic [7:0]          look_client,
    input  page_key_t           look_key,
    input  logic                look_write,
    output logic [CLIENTS-1:0]  waiting,
    output logic                denied,      // what is looked for was refused to this client
    output logic [CLIENTS-1:0]  direct,
    output logic                room,

    // Translation completions, from dmabed_ingress; held until `ready`
    input  logic                result_valid,
    input  logic [7:0]          result_client,
    input  logic                result_error,
    input  logic                result_last,
    input  logic                result_pair, // two translations in this beat, not one
    input  logic [127:0]        result_data,
    output logic                result_ready,

    output logic                fill_valid,
    output page_key_t           fill_key,
    output logic [51:0]         fill_page,
    output logic                fill_read,
    output logic                fill_write,

    input  logic                inv_valid,
    input  inv_range_t          inv_range
);

  // Plain constants: Icarus 11 knows no arrays of an enumeration.
  localparam logic [1:0] IDLE = 2'd0;
  localparam logic [1:0] WAIT = 2'd1;
  localparam logic [1:0] DENIED = 2'd2;
  localparam logic [1:0] DIRECT = 2'd3;

  localparam int KEY_BITS = $bits(page_key_t);
  localparam int INDEX = CLIENTS > 1 ? $clog2(CLIENTS) : 1;

  logic [1:0] states[CLIENTS];
  logic [KEY_BITS-1:0] keys[CLIENTS];
  logic [CLIENTS-1:0] writes, overtaken, hit_by_inv;
  logic [3:0] tries[CLIENTS];
  logic [1:0] received[CLIENTS];

  logic [7:0] outstanding;
  always @(*) begin
    outstanding = '0;
    for (int c = 0; c < CLIENTS; c++) outstanding = outstanding + 8'(waiting[c]);
  end
  assign room = outstanding < 8'(OUTSTANDING);

  // The pages a request spans start at its own, aligned to the STU (rule R-8).
  for (genvar c = 0; c < CLIENTS; c++) begin : gen_client
    page_key_t first, second;
    assign waiting[c] = states[c] == WAIT;
    assign direct[c] = states[c] == DIRECT || tries[c] >= 4'(TRIES);
    assign first = keys[c];
    assign second.page = first.page + (52'd1 << stu);
    assign second.pasid_valid = first.pasid_valid;
    assign second.pasid = first.pasid;
    assign hit_by_inv[c] = inv_valid && waiting[c] && MUTANT != 3
        && (inv_hits(inv_range, first) || (PAGES > 1 && inv_hits(inv_range, second)));
  end

  // A client may have given up the request that was refused: the answer is for that one only.
  logic [INDEX-1:0] looking;
  assign looking = look_client[INDEX-1:0];
  assign denied = states[looking] == DENIED && keys[looking] == look_key
      && writes[looking] == look_write;

  // One translation is looked at in a cycle; the second of a beat in the next.
  logic second_half;
  logic [63:0] entry;
  logic [INDEX-1:0] at;
  page_key_t key;
  logic s, u, r, w, usable;
  logic [51:0] mask, base;

  assign at = result_client[INDEX-1:0];
  assign entry = big_endian(second_half ? result_data[127:64] : result_data[63:0]);
  assign key = keys[at];
  assign s = entry[11];
  assign u = entry[2];
  assign w = entry[1];
  assign r = entry[0];
  assign mask = range_mask(entry[63:12], s);
  assign base = entry[63:12] & ~mask;
  assign usable = !u && (r || w);

  // The n-th translation is of the n-th range of that size behind the one that holds the page.
  assign fill_key.page = received[at] == 0 ? key.page : (key.page | mask) + 52'd1;
  assign fill_key.pasid_valid = key.pasid_valid;
  assign fill_key.pasid = key.pasid;
  assign fill_page = base | (fill_key.page & mask);
  assign fill_read = r;
  assign fill_write = w;
  assign fill_valid = result_valid && !result_error && usable && !overtaken[at]
      && waiting[at] && received[at] < 2'(PAGES);

  logic over;
  assign result_ready = !result_pair || second_half || result_error;
  assign over = result_valid && result_ready && result_last;

  // The first translation decides what follows WAIT; the last one ends it.
  logic [1:0] verdicts[CLIENTS];
  logic [1:0] verdict;
  logic granted;
  assign granted = writes[at] ? w : r;
  always @(*) begin
    verdict = verdicts[at];
    if (received[at] == 0) begin
      if (u) verdict = DIRECT;
      else if (granted) verdict = IDLE;
      else verdict = DENIED;
    end
  end

  always_ff @(posedge clk) begin
    second_half <= result_valid && !result_ready;
    if (done) begin
      states[done_client[INDEX-1:0]] <= IDLE;
      tries[done_client[INDEX-1:0]] <= '0;
    end
    if (ask) begin
      states[ask_client[INDEX-1:0]] <= WAIT;
      keys[ask_client[INDEX-1:0]] <= ask_key;
      writes[ask_client[INDEX-1:0]] <= ask_write;
      received[ask_client[INDEX-1:0]] <= '0;
      tries[ask_client[INDEX-1:0]] <= tries[ask_client[INDEX-1:0]] + 1'b1;
      overtaken[ask_client[INDEX-1:0]] <= 1'b0;
    end
    if (result_valid && waiting[at]) begin
      if (received[at] != 2'd3) received[at] <= received[at] + 1'b1;
      verdicts[at] <= verdict;
      if (over) begin
        if (result_error) states[at] <= DIRECT;
        else if (overtaken[at]) states[at] <= IDLE;
        else states[at] <= verdict;
      end
    end
    for (int c = 0; c < CLIENTS; c++) if (hit_by_inv[c] || flush) overtaken[c] <= 1'b1;
    if (rst) begin
      second_half <= 1'b0;
      overtaken <= '0;
      for (int c = 0; c < CLIENTS; c++) begin
        states[c] <= IDLE;
        tries[c] <= '0;
      end
    end
  end

endmodule
