// SPDX-License-Identifier: MIT
//
// What comes from the transaction layer: completions find their tag and go to the client or the
// device TLB, invalidate requests go to dmabed_inval. Everything is taken at once, but for the one
// cycle that the second translation of a beat needs.

module dmabed_ingress
  import dmabed_tlp_pkg::*;
(
    input  logic           clk,
    input  logic           rst,

    input  logic           rx_tvalid,
    output logic           rx_tready,
    input  logic [BEAT_BITS-1:0] rx_tdata,
    input  logic           rx_tlast,
    input  rx_header_t     rx_tuser,

    // dmabed_tags
    output logic [7:0]     find_tag,
    input  logic           found,
    input  logic           found_dead,
    input  logic           found_translation,
    input  logic           found_failed,
    input  logic [7:0]     found_client,
    input  logic [7:0]     found_slot,
    input  logic [12:0]    found_len,
    input  logic [12:0]    found_left,
    output logic           advance,
    output logic [12:0]    advance_by,
    output logic           fail,
    output logic           retire,
    input  logic           expired,
    input  logic [7:0]     expired_tag,
    output logic           expire,

    // To the clients
    output logic           rsp_valid,
    output logic [7:0]     rsp_client,
    output dma_response_t  rsp,

    // dmabed_ats
    output logic           result_valid,
    output logic [7:0]     result_client,
    output logic           result_error,
    output logic           result_last,
    output logic           result_pair,
    output logic [127:0]   result_data,
    input  logic           result_ready,

    // dmabed_inval
    output logic           inv_valid,
    output logic           unexpected        // a completion nobody waits for was dropped
);

  logic first;                 // the beat at hand begins a TLP
  logic dropping;              // the TLP at hand is not wanted
  logic [12:0] done_bytes;     // of this TLP, before this beat
  logic [12:0] here, count;

  rx_header_t h;
  assign h = rx_tuser;

  // A request whose time has run out ends between two TLPs.
  assign expire = expired && first;
  assign find_tag = expire ? expired_tag : h.tag;

  logic beat, cpl, wanted, error_status, fits;
  assign beat = rx_tvalid && !expire;
  assign cpl = beat && h.kind == RX_CPL;
  assign error_status = h.status != 3'd0;
  assign fits = error_status || found_translation || (h.byte_count == found_left && h.len <= found_left);
  assign wanted = cpl && (first ? found && fits : !dropping);
  assign inv_valid = beat && first && h.kind == RX_INV_REQ;

  assign here = first ? '0 : done_bytes;
  assign count = h.len - here > 13'd16 ? 13'd16 : h.len - here;

  // The last beat of the last completion; one with an error status is always the last.
  logic final_beat;
  assign final_beat = rx_tlast && (error_status || h.byte_count == h.len);

  assign rx_tready = !expire && (!result_valid || result_ready);

  assign advance = wanted && rx_tlast && rx_tready && !found_translation && !error_status;
  assign advance_by = h.len;
  assign fail = wanted && h.poisoned;
  assign retire = wanted && final_beat && rx_tready;
  assign unexpected = cpl && first && rx_tready && !(found && fits);

  logic failing;
  assign failing = expire || error_status || (final_beat && (found_failed || h.poisoned));

  assign rsp_valid = ((wanted && !found_dead) || expire) && !found_translation;
  assign rsp_client = found_client;
  assign rsp.slot = found_slot;
  assign rsp.offset = found_len - h.byte_count + here;
  assign rsp.count = failing ? 5'd0 : count[4:0];
  assign rsp.last = expire || final_beat;
  assign rsp.error = failing;
  assign rsp.data = rx_tdata;

  assign result_valid = ((wanted && !found_dead) || expire) && found_translation;
  assign result_client = found_client;
  assign result_error = expire || error_status || h.poisoned;
  assign result_last = expire || final_beat;
  assign result_pair = count > 13'd8;
  assign result_data = rx_tdata;

  always_ff @(posedge clk) begin
    if (rst) begin
      first <= 1'b1;
    end else if (beat && rx_tready) begin
      first <= rx_tlast;
      done_bytes <= here + 13'd16;
      if (first) dropping <= !(found && fits) || h.kind == RX_INV_REQ;
    end
  end

endmodule
