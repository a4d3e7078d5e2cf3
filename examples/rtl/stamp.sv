// SPDX-License-Identifier: MIT
//
// A tiny design for a guest: a write to STAMP makes it write {count, value, clock} to the address
// in ADDR, by one posted write of 16 bytes, and interrupt. docs/rtl.md says how it gets there.
//
//   0x00 ID (reads 5354414d)  0x04 ADDR low  0x08 ADDR high  0x0c STAMP (write)  0x10 COUNT (read)
//   0x10000: one MSI-X entry

module stamp
  import dmabed_tlp_pkg::*;
(
    input  logic         clk,
    input  logic         rst,
    `AXIL_PORTS(17),

    input  logic         cfg_bus_master,
    input  logic         cfg_msix_enable,
    input  logic         cfg_flr,
    output logic         cfg_settled,

    input  logic         rx_tvalid,      // it asks for nothing, so nothing comes back
    output logic         rx_tready,
    input  logic [127:0] rx_tdata,
    input  logic         rx_tlast,
    input  rx_header_t   rx_tuser,
    output logic         tx_tvalid,
    input  logic         tx_tready,
    output logic [127:0] tx_tdata,
    output logic         tx_tlast,
    output tx_header_t   tx_tuser,
    input  logic         np_credit
);

  logic write, read, reset;
  logic [16:0] write_addr, read_addr;
  logic [31:0] write_data, read_data;
  assign reset = rst || cfg_flr;

  dmabed_axil axil (
      .clk, .rst, `AXIL_CONNECT,
      .write, .write_addr, .write_data, .read, .read_addr, .read_data);

  logic [63:0] addr, clock, irq_addr;
  logic [31:0] value, count, irq_data;
  logic irq_masked, stamping, interrupting;

  always @(*) begin
    case (read_addr)
      17'h0: read_data = 32'h5354_414d;
      17'h4: read_data = addr[31:0];
      17'h8: read_data = addr[63:32];
      17'h10: read_data = count;
      default: read_data = '0;
    endcase
  end

  assign rx_tready = 1'b1;
  assign cfg_settled = 1'b1;
  assign tx_tvalid = stamping || interrupting;
  assign tx_tlast = 1'b1;
  assign tx_tdata = stamping ? {count, value, clock} : {96'd0, irq_data};
  always @(*) begin
    tx_tuser = '0;
    tx_tuser.kind = TX_WRITE;
    tx_tuser.len = stamping ? 13'd16 : 13'd4;
    tx_tuser.addr = stamping ? addr : irq_addr;
  end

  always_ff @(posedge clk) begin
    clock <= clock + 64'd1;
    if (write) begin
      case (write_addr)
        17'h4: addr[31:0] <= write_data;
        17'h8: addr[63:32] <= write_data;
        17'hc: if (cfg_bus_master) begin
          value <= write_data;
          count <= count + 32'd1;
          stamping <= 1'b1;
        end
        17'h10000: irq_addr[31:0] <= write_data;
        17'h10004: irq_addr[63:32] <= write_data;
        17'h10008: irq_data <= write_data;
        17'h1000c: irq_masked <= write_data[0];
        default: ;
      endcase
    end
    if (tx_tvalid && tx_tready) begin
      stamping <= 1'b0;
      interrupting <= stamping && cfg_msix_enable && !irq_masked;
    end
    if (reset) begin
      {addr, clock, irq_addr} <= '0;
      {value, count, irq_data} <= '0;
      {irq_masked, stamping, interrupting} <= 3'b100;
    end
  end

  logic unused;
  assign unused = ^{read, rx_tvalid, rx_tdata, rx_tlast, rx_tuser, np_credit};

endmodule
