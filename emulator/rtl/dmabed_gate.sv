// SPDX-License-Identifier: MIT
//
// Bus mastering, ATS enable and function-level reset, as configuration space asks for them.
//
// A change first lets out what was committed under the old setting; `settled` then rises, and only
// then would the configuration write be completed. So nothing has to be dropped and nothing of the
// old setting follows. A function-level reset waits for the end of the TLP on the port and for
// nothing else.

module dmabed_gate (
    input  logic clk,
    input  logic rst,

    input  logic cfg_bus_master,
    input  logic cfg_ats,
    input  logic cfg_flr,        // a pulse
    output logic settled,

    input  logic memory_idle,    // no memory request is queued or being committed
    input  logic boundary,
    output logic bus_master,     // in force
    output logic ats,
    output logic hold,           // commit nothing
    output logic flush,          // the device TLB forgets all (rule R-10)
    output logic flr             // reset now
);

  logic change, flr_asked;
  assign change = cfg_bus_master != bus_master || cfg_ats != ats;
  assign settled = !change && !flr_asked && !cfg_flr;
  assign hold = !bus_master || change || flr_asked;
  assign flush = change && memory_idle && cfg_ats != ats;
  assign flr = flr_asked && boundary;

  always_ff @(posedge clk) begin
    if (cfg_flr) flr_asked <= 1'b1;
    else if (flr) flr_asked <= 1'b0;
    if (change && memory_idle) begin
      bus_master <= cfg_bus_master;
      ats <= cfg_ats;
    end
    if (rst || flr) begin
      bus_master <= 1'b0;
      ats <= 1'b0;
    end
    if (rst) flr_asked <= 1'b0;
  end

endmodule
