// SPDX-License-Identifier: MIT
//
// A first-in first-out queue of 2^DEPTH_LOG2 words; the word at the head is always on view.

module dmabed_fifo #(
    parameter int WIDTH = 8,
    parameter int DEPTH_LOG2 = 3
) (
    input  logic                  clk,
    input  logic                  rst,
    input  logic                  push,
    input  logic [WIDTH-1:0]      push_data,
    input  logic                  pop,
    output logic [WIDTH-1:0]      head,
    output logic [DEPTH_LOG2:0]   count
);

  logic [WIDTH-1:0] words[1 << DEPTH_LOG2];
  logic [DEPTH_LOG2:0] write_count, read_count;

  assign count = write_count - read_count;
  assign head  = words[read_count[DEPTH_LOG2-1:0]];

  always_ff @(posedge clk) begin
    if (push) words[write_count[DEPTH_LOG2-1:0]] <= push_data;
    if (rst) begin
      write_count <= '0;
      read_count  <= '0;
    end else begin
      if (push) write_count <= write_count + 1'b1;
      if (pop) read_count <= read_count + 1'b1;
    end
  end

endmodule
