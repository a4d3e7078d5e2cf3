// SPDX-License-Identifier: MIT
//
// AXI4-Lite slave: one access at a time, as strobes on a plain register bus. `read_data` is
// expected in the cycle of `read`. A write that is not of four whole bytes does nothing.

// The ports of the bus, and their connection to an instance of dmabed_axil, for the module around it.
`define AXIL_PORTS(ADDR) \
    input logic [ADDR-1:0] s_axil_awaddr, \
    input logic [2:0] s_axil_awprot, \
    input logic s_axil_awvalid, \
    output logic s_axil_awready, \
    input logic [31:0] s_axil_wdata, \
    input logic [3:0] s_axil_wstrb, \
    input logic s_axil_wvalid, \
    output logic s_axil_wready, \
    output logic [1:0] s_axil_bresp, \
    output logic s_axil_bvalid, \
    input logic s_axil_bready, \
    input logic [ADDR-1:0] s_axil_araddr, \
    input logic [2:0] s_axil_arprot, \
    input logic s_axil_arvalid, \
    output logic s_axil_arready, \
    output logic [31:0] s_axil_rdata, \
    output logic [1:0] s_axil_rresp, \
    output logic s_axil_rvalid, \
    input logic s_axil_rready

`define AXIL_CONNECT \
    .s_axil_awaddr, .s_axil_awprot, .s_axil_awvalid, .s_axil_awready, .s_axil_wdata, \
    .s_axil_wstrb, .s_axil_wvalid, .s_axil_wready, .s_axil_bresp, .s_axil_bvalid, \
    .s_axil_bready, .s_axil_araddr, .s_axil_arprot, .s_axil_arvalid, .s_axil_arready, \
    .s_axil_rdata, .s_axil_rresp, .s_axil_rvalid, .s_axil_rready

module dmabed_axil #(
    parameter int ADDR = 17
) (
    input  logic            clk,
    input  logic            rst,

    `AXIL_PORTS(ADDR),

    output logic            write,
    output logic [ADDR-1:0] write_addr,
    output logic [31:0]     write_data,
    output logic            read,
    output logic [ADDR-1:0] read_addr,
    input  logic [31:0]     read_data
);

  logic accept_write, unused;
  assign unused = ^{s_axil_awprot, s_axil_arprot};

  assign accept_write = s_axil_awvalid && s_axil_wvalid && (!s_axil_bvalid || s_axil_bready);
  assign s_axil_awready = accept_write;
  assign s_axil_wready = accept_write;
  assign s_axil_bresp = 2'b00;
  assign write = accept_write && s_axil_wstrb == 4'hf;
  assign write_addr = s_axil_awaddr;
  assign write_data = s_axil_wdata;

  // A read waits for the write that is accepted now, so it sees what that did.
  assign read = s_axil_arvalid && s_axil_arready;
  assign s_axil_arready = !accept_write && (!s_axil_rvalid || s_axil_rready);
  assign s_axil_rresp = 2'b00;
  assign read_addr = s_axil_araddr;

  always_ff @(posedge clk) begin
    if (accept_write) s_axil_bvalid <= 1'b1;
    else if (s_axil_bready) s_axil_bvalid <= 1'b0;
    if (read) begin
      s_axil_rvalid <= 1'b1;
      s_axil_rdata <= read_data;
    end else if (s_axil_rready) s_axil_rvalid <= 1'b0;
    if (rst) begin
      s_axil_bvalid <= 1'b0;
      s_axil_rvalid <= 1'b0;
    end
  end

endmodule
