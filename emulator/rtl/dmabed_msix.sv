// SPDX-License-Identifier: MIT
//
// MSI-X: the table and the pending bits behind their registers, and the interrupts as memory
// writes. An interrupt is not translated; it follows, in the posted queue, the completion it tells
// of.

module dmabed_msix
  import dmabed_tlp_pkg::*;
#(
    parameter int VECTORS = 2
) (
    input  logic               clk,
    input  logic               rst,
    input  logic               forget,     // CTRL.reset: nothing is pending any more
    input  logic               enable,     // MSI-X enable of the capability
    input  logic               mask_all,   // its function mask

    // The table at 0, 16 bytes a vector; the pending bits at 0x800
    input  logic               write,
    input  logic [11:0]        write_addr,
    input  logic [31:0]        write_data,
    input  logic [11:0]        read_addr,
    output logic [31:0]        read_data,

    input  logic [VECTORS-1:0] raise,
    output logic               req_valid,
    output dma_request_t       req,
    output logic [BEAT_BITS-1:0] req_data,
    input  logic               granted
);

  localparam int INDEX = VECTORS > 1 ? $clog2(VECTORS) : 1;

  logic [63:0] addresses[VECTORS];
  logic [31:0] messages[VECTORS];
  logic [VECTORS-1:0] masked, pending, sendable;
  logic [INDEX-1:0] next, row;
  logic table_hit;

  assign sendable = pending & ~masked & {VECTORS{enable && !mask_all}};
  always @(*) begin
    next = '0;
    for (int v = VECTORS - 1; v >= 0; v--) if (sendable[v]) next = INDEX'(v);
  end

  assign req_valid = sendable != '0;
  always @(*) begin
    req = '0;
    req.write = 1'b1;
    req.direct = 1'b1;
    req.len = 13'd4;
    req.addr = addresses[next];
  end
  assign req_data = {96'd0, messages[next]};

  assign row = read_addr[4+:INDEX];
  assign table_hit = int'(read_addr[11:4]) < VECTORS;
  always @(*) begin
    read_data = '0;
    if (table_hit) begin
      case (read_addr[3:2])
        2'd0: read_data = addresses[row][31:0];
        2'd1: read_data = addresses[row][63:32];
        2'd2: read_data = messages[row];
        default: read_data = {31'd0, masked[row]};
      endcase
    end else if (read_addr == 12'h800) read_data = 32'(pending);
  end

  always_ff @(posedge clk) begin
    pending <= pending | raise;
    if (granted) pending[next] <= raise[next];
    if (write && int'(write_addr[11:4]) < VECTORS) begin
      case (write_addr[3:2])
        2'd0: addresses[write_addr[4+:INDEX]][31:0] <= write_data;
        2'd1: addresses[write_addr[4+:INDEX]][63:32] <= write_data;
        2'd2: messages[write_addr[4+:INDEX]] <= write_data;
        default: masked[write_addr[4+:INDEX]] <= write_data[0];
      endcase
    end
    if (rst || forget) pending <= '0;
    if (rst) begin
      masked <= '1;
      for (int v = 0; v < VECTORS; v++) begin
        addresses[v] <= '0;
        messages[v] <= '0;
      end
    end
  end

endmodule
