// SPDX-License-Identifier: MIT
//
// Where requests of the clients become TLPs: picks a client, looks its page up, and in that same
// cycle commits the request to the queues of dmabed_egress and, if it is a read, to a tag.
//
// That one cycle is what the ordering argument rests on: a translated address is never held
// anywhere but in the cache, in a queue, or under a tag. In the cycle of an invalidation nothing is
// committed, so every user of the old translation is then in a queue or under a tag already.

module dmabed_issue
  import dmabed_tlp_pkg::*;
#(
    parameter int CLIENTS = 6,
    parameter int PAGES = 2
) (
    input  logic                clk,
    input  logic                rst,
    input  logic                hold,        // commit nothing
    input  logic                translate,   // ATS is on
    input  logic [15:0]         requester,
    output logic                idle,

    // Clients
    input  logic [CLIENTS-1:0]  req_valid,
    input  logic [CLIENTS*$bits(dma_request_t)-1:0] req,
    input  logic [CLIENTS*BEAT_BITS-1:0] req_data,
    output logic [CLIENTS-1:0]  granted,     // the request was taken
    output logic [CLIENTS-1:0]  refused,     // the host grants no such access
    output logic [CLIENTS-1:0]  take_beat,   // write: `req_data` was taken, show the next beat

    // Device TLB
    output page_key_t           look_key,
    output logic                look_write,
    input  logic                look_hit,
    input  logic [51:0]         look_page,
    input  logic [CLIENTS-1:0]  waiting,
    input  logic                denied,
    input  logic [CLIENTS-1:0]  direct,
    input  logic                room,
    output logic                ask,
    output logic                done,
    output logic [7:0]          client,

    // Tags
    input  logic                tag_free,
    input  logic [7:0]          tag,
    output logic                alloc,
    output logic [7:0]          alloc_slot,
    output logic                alloc_translation,
    output logic                alloc_translated,
    output logic [12:0]         alloc_len,

    // Queues
    output logic                posted_push,
    input  logic                posted_ready,
    output tx_header_t          header,
    output logic                data_push,
    output logic [BEAT_BITS-1:0] data_word,
    output logic                np_push,
    input  logic                np_ready
);

  localparam int WIDTH = $bits(dma_request_t);
  localparam int INDEX = CLIENTS > 1 ? $clog2(CLIENTS) : 1;

  typedef enum logic [1:0] {PICK, LOOK, STREAM} state_e;
  state_e state;
  logic [INDEX-1:0] sel, pick;
  logic [CLIENTS-1:0] eligible;
  logic any;
  dma_request_t r;
  logic [8:0] beats_left;

  // Round robin: the first one behind the last.
  assign eligible = req_valid & ~waiting;
  assign any = eligible != '0;
  always @(*) begin
    pick = sel;
    for (int c = CLIENTS - 1; c >= 0; c--) if (eligible[c]) pick = INDEX'(c);
    for (int c = CLIENTS - 1; c >= 0; c--) if (eligible[c] && c > int'(sel)) pick = INDEX'(c);
  end

  assign r = req[sel*WIDTH+:WIDTH];
  assign client = 8'(sel);
  assign look_key.page = r.addr[63:12];
  assign look_key.pasid_valid = r.pasid_valid;
  assign look_key.pasid = r.pasid;
  assign look_write = r.write;

  logic looking, plain, space, commit, refuse, miss;
  assign looking = state == LOOK && req_valid[sel] && !waiting[sel] && !hold;
  assign plain = !translate || r.direct || direct[sel];
  assign space = r.write ? posted_ready : np_ready && tag_free;
  assign refuse = looking && denied;
  assign commit = looking && !denied && (plain || look_hit) && space;
  assign miss = looking && !denied && !plain && !look_hit;

  assign ask = miss && np_ready && tag_free && room;
  assign done = (commit && !r.direct) || refuse;
  assign alloc = ask || (commit && !r.write);
  assign alloc_translation = ask;
  assign alloc_translated = !ask && !plain;
  assign alloc_slot = r.slot;
  assign alloc_len = header.len;
  assign posted_push = commit && r.write;
  assign np_push = ask || (commit && !r.write);

  always @(*) begin
    header = '0;
    header.requester = requester;
    header.pasid_valid = r.pasid_valid;
    header.pasid = r.pasid_valid ? r.pasid : '0;
    header.addr = r.addr;
    header.len = r.len;
    if (ask) begin
      header.kind = TX_TRANSLATION;
      header.at = AT_TRANSLATION;
      header.addr = {r.addr[63:12], 12'd0};
      header.len = 13'(8 * PAGES);
      header.no_write = !r.write;
      header.tag = tag;
    end else begin
      header.kind = r.write ? TX_WRITE : TX_READ;
      header.at = plain ? AT_UNTRANSLATED : AT_TRANSLATED;
      if (!plain) header.addr = {look_page, r.addr[11:0]};
      if (!r.write) header.tag = tag;
    end
  end

  assign data_push = posted_push || state == STREAM;
  assign data_word = req_data[sel*BEAT_BITS+:BEAT_BITS];
  assign idle = state != STREAM;

  always @(*) begin
    granted = '0;
    refused = '0;
    take_beat = '0;
    granted[sel] = commit;
    refused[sel] = refuse;
    take_beat[sel] = data_push;
  end

  always_ff @(posedge clk) begin
    case (state)
      PICK: if (any) begin
        sel <= pick;
        state <= LOOK;
      end
      LOOK: if (!hold) begin
        beats_left <= 9'((r.len + 13'd15) >> 4) - 9'd1;
        state <= posted_push && r.len > 13'd16 ? STREAM : PICK;
      end
      default: begin
        beats_left <= beats_left - 9'd1;
        if (beats_left == 9'd1) state <= PICK;
      end
    endcase
    if (rst) begin
      state <= PICK;
      sel <= '0;
    end
  end

endmodule
