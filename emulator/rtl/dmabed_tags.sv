// SPDX-License-Identifier: MIT
//
// The requests that wait for completions, by tag.
//
// The upper bits of a tag count function-level resets, so a completion from before a reset is
// known as such. A request without an answer for one to two TIMEOUT periods is over with an error; its tag
// is not used again until the late completion has come, or a reset.

module dmabed_tags
  import dmabed_tlp_pkg::*;
#(
    parameter int TAGS = 16,
    parameter int TIMEOUT = 16384
) (
    input  logic            clk,
    input  logic            rst,
    input  logic            flr,             // with rst: a new epoch

    input  logic            alloc,
    output logic            free,
    output logic [7:0]      free_tag,
    input  logic [7:0]      alloc_client,
    input  logic [7:0]      alloc_slot,
    input  logic            alloc_translation,
    input  logic            alloc_translated,
    input  page_key_t       alloc_key,
    input  logic [12:0]     alloc_len,

    // The tag of the completion at hand
    input  logic [7:0]      find_tag,
    output logic            found,           // a request is waiting under this tag
    output logic            found_dead,      // it is over already: its time had run out
    output logic            found_translation,
    output logic            found_failed,    // a part of it came poisoned
    output logic [7:0]      found_client,
    output logic [7:0]      found_slot,
    output logic [12:0]     found_len,
    output logic [12:0]     found_left,
    input  logic            advance,         // `advance_by` bytes of it have come
    input  logic [12:0]     advance_by,
    input  logic            fail,
    input  logic            retire,

    // A request whose time has run out
    output logic            expired,
    output logic [7:0]      expired_tag,
    input  logic            expire,

    input  inv_range_t      inv_range,
    output logic [TAGS-1:0] stale,
    output logic [TAGS-1:0] live
);

  localparam int INDEX = $clog2(TAGS);
  localparam int KEY_BITS = $bits(page_key_t);

  logic [TAGS-1:0] valid, dead, translations, translated, failed, old, older;
  logic [7:0] clients[TAGS], slots[TAGS];
  logic [12:0] lens[TAGS], lefts[TAGS];
  logic [KEY_BITS-1:0] keys[TAGS];
  logic [7-INDEX:0] epoch;

  logic [INDEX-1:0] next, find, late;
  always @(*) begin
    next = '0;
    late = '0;
    for (int t = TAGS - 1; t >= 0; t--) begin
      if (!valid[t]) next = INDEX'(t);
      if (valid[t] && !dead[t] && older[t]) late = INDEX'(t);
    end
  end

  assign free = valid != '1;
  assign free_tag = {epoch, next};
  assign expired = (valid & ~dead & older) != '0;
  assign expired_tag = {epoch, late};

  assign find = find_tag[INDEX-1:0];
  assign found = valid[find] && find_tag[7:INDEX] == epoch;
  assign found_dead = dead[find];
  assign found_translation = translations[find];
  assign found_failed = failed[find];
  assign found_client = clients[find];
  assign found_slot = slots[find];
  assign found_len = lens[find];
  assign found_left = lefts[find];

  for (genvar t = 0; t < TAGS; t++) begin : gen_stale
    assign live[t] = valid[t] && !dead[t];
    assign stale[t] = live[t] && translated[t] && inv_hits(inv_range, keys[t]);
  end

  localparam int TIMER = $clog2(TIMEOUT);
  logic [TIMER-1:0] timer;

  always_ff @(posedge clk) begin
    timer <= timer + 1'b1;
    if (timer == '0) begin
      old <= valid;
      older <= old;
    end
    if (advance) begin
      lefts[find] <= lefts[find] - advance_by;
      old[find] <= 1'b0;
      older[find] <= 1'b0;
    end
    if (fail) failed[find] <= 1'b1;
    if (retire) valid[find] <= 1'b0;
    if (expire) dead[late] <= 1'b1;
    if (alloc) begin
      valid[next] <= 1'b1;
      dead[next] <= 1'b0;
      failed[next] <= 1'b0;
      old[next] <= 1'b0;
      older[next] <= 1'b0;
      clients[next] <= alloc_client;
      slots[next] <= alloc_slot;
      translations[next] <= alloc_translation;
      translated[next] <= alloc_translated;
      keys[next] <= alloc_key;
      lens[next] <= alloc_len;
      lefts[next] <= alloc_len;
    end
    if (rst) begin
      valid <= '0;
      timer <= '0;
      old <= '0;
      older <= '0;
      epoch <= flr ? epoch + 1'b1 : '0;
    end
  end

endmodule
