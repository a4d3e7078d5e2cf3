// SPDX-License-Identifier: MIT
//
// When a queue pair interrupts: ARM, the moderation timer and the bound on frames; the rules are
// those of emulator/nic/moderation.py.

module dmabed_moderation #(
    parameter int CLOCK_MHZ = 250
) (
    input  logic        clk,
    input  logic        rst,
    input  logic        settle,         // no ring runs: there is nothing to announce
    input  logic        arm,
    input  logic        all_seen,       // with arm: the driver knows every completion
    input  logic [1:0]  completed,      // completions written in this cycle, one bit each side
    input  logic [15:0] usecs,
    input  logic [15:0] frames,
    output logic        fire
);

  localparam int DIVIDER = $clog2(CLOCK_MHZ + 1);

  logic armed, waiting, due;
  logic [16:0] unannounced;
  logic [15:0] waited;
  logic [DIVIDER-1:0] fraction;

  assign waiting = armed && unannounced != '0;
  assign due = waited >= usecs || (frames != '0 && unannounced >= {1'b0, frames});
  assign fire = arm ? !all_seen : waiting && due;

  always_ff @(posedge clk) begin
    if (armed && !arm) begin
      if (!unannounced[16]) unannounced <= unannounced + 17'(completed[0]) + 17'(completed[1]);
      if (waiting) begin
        fraction <= fraction == DIVIDER'(CLOCK_MHZ - 1) ? '0 : fraction + 1'b1;
        if (fraction == DIVIDER'(CLOCK_MHZ - 1)) waited <= waited + 1'b1;
      end
    end
    if (arm) armed <= all_seen;
    else if (fire) armed <= 1'b0;
    if (arm || fire || settle || rst) begin
      unannounced <= '0;
      waited <= '0;
      fraction <= '0;
    end
    if (arm && !fire) unannounced <= 17'(completed[0]) + 17'(completed[1]);
    if (rst) armed <= 1'b0;
  end

endmodule
