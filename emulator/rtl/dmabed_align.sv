// SPDX-License-Identifier: MIT
//
// Cuts a stream of full 16-byte beats at any byte: `take` removes `take_count` bytes from its
// front.

module dmabed_align (
    input  logic         clk,
    input  logic         clear,
    input  logic         load,
    input  logic [127:0] load_data,
    output logic         room,         // for one more beat
    output logic [5:0]   held,         // bytes at hand
    output logic [127:0] front,
    input  logic         take,
    input  logic [4:0]   take_count
);

  logic [255:0] bytes_held, after;
  logic [5:0] held_after;

  assign front = bytes_held[127:0];
  assign room = held <= 6'd16;
  assign after = take ? bytes_held >> {take_count, 3'd0} : bytes_held;
  assign held_after = take ? held - {1'b0, take_count} : held;

  always_ff @(posedge clk) begin
    bytes_held <= load ? after | ({128'd0, load_data} << {held_after, 3'd0}) : after;
    held <= load ? held_after + 6'd16 : held_after;
    if (clear) begin
      bytes_held <= '0;
      held <= '0;
    end
  end

endmodule
