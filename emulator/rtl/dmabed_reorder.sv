// SPDX-License-Identifier: MIT
//
// Data of reads that complete in any order and in pieces that start at any byte: SLOTS areas of
// SLOT_BYTES. Byte b of a slot lies in lane b mod 16, so a piece of 16 bytes touches each of the
// sixteen byte-wide memories once.

module dmabed_reorder #(
    parameter int SLOTS = 8,
    parameter int SLOT_BYTES = 512
) (
    input  logic         clk,
    input  logic         write,
    input  logic [7:0]   write_slot,
    input  logic [12:0]  write_offset,
    input  logic [4:0]   write_count,
    input  logic [127:0] write_data,
    input  logic [7:0]   read_slot,
    input  logic [8:0]   read_row,
    output logic [127:0] read_data
);

  localparam int ROWS = SLOT_BYTES / 16;
  localparam int ROW = $clog2(SLOTS * ROWS);

  logic [ROW-1:0] first_row, out_row;
  assign first_row = ROW'(int'(write_slot) * ROWS) + ROW'(write_offset[12:4]);
  assign out_row = ROW'(int'(read_slot) * ROWS) + ROW'(read_row);

  for (genvar l = 0; l < 16; l++) begin : gen_lane
    logic [7:0] ram[SLOTS*ROWS];
    logic [3:0] source;          // which byte of the piece falls in this lane
    logic carry;                 // it is one row further
    assign {carry, source} = l >= int'(write_offset[3:0])
        ? {1'b0, 4'(l) - write_offset[3:0]} : {1'b1, 4'(l) - write_offset[3:0]};
    always_ff @(posedge clk) begin
      if (write && {1'b0, source} < write_count)
        ram[carry ? first_row + 1'b1 : first_row] <= write_data[source*8+:8];
    end
    assign read_data[l*8+:8] = ram[out_row];
  end

endmodule
