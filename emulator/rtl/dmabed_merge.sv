// SPDX-License-Identifier: MIT
//
// Frames of several queue pairs on one port to the MAC: round robin, a whole frame at a time.

module dmabed_merge #(
    parameter int INPUTS = 2,
    parameter int WIDTH = 128
) (
    input  logic                      clk,
    input  logic                      rst,
    input  logic [INPUTS-1:0]         s_tvalid,
    output logic [INPUTS-1:0]         s_tready,
    input  logic [INPUTS*WIDTH-1:0]   s_tdata,
    input  logic [INPUTS*WIDTH/8-1:0] s_tkeep,
    input  logic [INPUTS-1:0]         s_tlast,
    input  logic [INPUTS-1:0]         s_tuser,
    output logic                      m_tvalid,
    input  logic                      m_tready,
    output logic [WIDTH-1:0]          m_tdata,
    output logic [WIDTH/8-1:0]        m_tkeep,
    output logic                      m_tlast,
    output logic                      m_tuser
);

  localparam int INDEX = INPUTS > 1 ? $clog2(INPUTS) : 1;

  logic [INDEX-1:0] last, pick, sel;
  logic midway;                // a frame has begun and not ended

  // The first one behind the last, as in dmabed_issue.
  always @(*) begin
    pick = last;
    for (int i = INPUTS - 1; i >= 0; i--) if (s_tvalid[i]) pick = INDEX'(i);
    for (int i = INPUTS - 1; i >= 0; i--) if (s_tvalid[i] && i > int'(last)) pick = INDEX'(i);
    sel = midway ? last : pick;
  end

  assign m_tvalid = s_tvalid[sel];
  assign m_tdata = s_tdata[sel*WIDTH+:WIDTH];
  assign m_tkeep = s_tkeep[sel*(WIDTH/8)+:WIDTH/8];
  assign m_tlast = s_tlast[sel];
  assign m_tuser = s_tuser[sel];
  always @(*) begin
    s_tready = '0;
    s_tready[sel] = m_tready;
  end

  // Once offered, a frame stays on the port until its end is taken.
  always_ff @(posedge clk) begin
    if (m_tvalid) begin
      last <= sel;
      midway <= !(m_tready && m_tlast);
    end
    if (rst) begin
      last <= '0;
      midway <= 1'b0;
    end
  end

endmodule
