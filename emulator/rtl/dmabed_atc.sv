// SPDX-License-Identifier: MIT
//
// The address translation cache: set-associative look-up, fill, and invalidation of all entries in
// one cycle. A translation of more than 4 KiB is kept as the 4 KiB that were asked for.
//
// An invalidation, a fill and a look-up never meet in one cycle: fill and invalidation come from
// the one receive stream, and dmabed_issue looks nothing up while `inv_valid` is high.

module dmabed_atc
  import dmabed_tlp_pkg::*;
#(
    parameter int ENTRIES = 16,
    parameter int WAYS = 2,
    parameter int MUTANT = 0
) (
    input  logic        clk,
    input  logic        rst,

    input  page_key_t   look_key,
    input  logic        look_write,
    output logic        look_hit,
    output logic [51:0] look_page,

    input  logic        fill_valid,
    input  page_key_t   fill_key,
    input  logic [51:0] fill_page,
    input  logic        fill_read,
    input  logic        fill_write,

    input  logic        inv_valid,
    input  inv_range_t  inv_range,
    input  logic        flush,
    output logic        empty
);

  localparam int SETS = ENTRIES / WAYS;
  localparam int KEY_BITS = $bits(page_key_t);
  localparam int WAY_BITS = WAYS > 1 ? $clog2(WAYS) : 1;

  // Entry e is way e % WAYS of set e / WAYS.
  logic [ENTRIES-1:0] valid, readable, writable, stale, look_match, fill_match;
  logic [KEY_BITS-1:0] keys[ENTRIES];
  logic [51:0] pages[ENTRIES];
  logic [WAY_BITS-1:0] victims[SETS];

  function automatic int set_of(input logic [51:0] page);
    set_of = SETS > 1 ? int'(page % 52'(SETS)) : 0;
  endfunction

  for (genvar e = 0; e < ENTRIES; e++) begin : gen_match
    logic same_set_look, same_set_fill;
    assign same_set_look = set_of(look_key.page) == e / WAYS;
    assign same_set_fill = set_of(fill_key.page) == e / WAYS;
    assign look_match[e] = valid[e] && same_set_look && keys[e] == look_key
        && (look_write ? writable[e] : readable[e]);
    assign fill_match[e] = valid[e] && same_set_fill && keys[e] == fill_key;
    assign stale[e] = inv_valid && inv_hits(inv_range, keys[e])
        && !(MUTANT == 6 && e % WAYS == 1);
  end

  assign look_hit = look_match != '0;
  assign empty = valid == '0;

  always @(*) begin
    look_page = '0;
    for (int e = 0; e < ENTRIES; e++) if (look_match[e]) look_page = look_page | pages[e];
  end

  // Where a fill goes: over the entry of the same page, else to a free way, else to the victim.
  int fill_set, fill_way;
  always @(*) begin
    fill_set = set_of(fill_key.page);
    fill_way = int'(victims[fill_set]) % WAYS;
    for (int w = 0; w < WAYS; w++) if (!valid[fill_set*WAYS+w]) fill_way = w;
    for (int w = 0; w < WAYS; w++) if (fill_match[fill_set*WAYS+w]) fill_way = w;
  end

  always_ff @(posedge clk) begin
    if (fill_valid) begin
      keys[fill_set*WAYS+fill_way] <= fill_key;
      pages[fill_set*WAYS+fill_way] <= fill_page;
      victims[fill_set] <= victims[fill_set] + 1'b1;
    end
    if (rst || flush) begin
      valid <= '0;
      readable <= '0;
      writable <= '0;
      for (int s = 0; s < SETS; s++) victims[s] <= '0;
    end else if (inv_valid) begin
      valid <= valid & ~stale;
    end else if (fill_valid) begin
      valid[fill_set*WAYS+fill_way] <= 1'b1;
      readable[fill_set*WAYS+fill_way] <= fill_read;
      writable[fill_set*WAYS+fill_way] <= fill_write;
    end
  end

endmodule
