// SPDX-License-Identifier: MIT
//
// What crosses the borders of the DMA engine: the decoded headers on the transaction layer's side
// and the requests of the engine's own clients; and the two rules every part of the device TLB
// shares, how a range is coded and what an invalidation hits.
//
// Addresses and lengths in headers count bytes, and a payload starts with the first byte addressed:
// dword alignment and byte enables are the transaction layer's. A header without payload travels
// with one beat whose data means nothing.

package dmabed_tlp_pkg;

  localparam int BEAT_BYTES = 16;
  localparam int BEAT_BITS = 8 * BEAT_BYTES;

  // tx_header_t.kind
  localparam logic [1:0] TX_WRITE = 2'd0;        // memory write (MSI-X too), payload follows
  localparam logic [1:0] TX_READ = 2'd1;         // memory read
  localparam logic [1:0] TX_TRANSLATION = 2'd2;  // ATS translation request
  localparam logic [1:0] TX_INV_CPL = 2'd3;      // invalidate completion, a message

  // rx_header_t.kind
  localparam logic RX_CPL = 1'b0;      // completion, of a read or a translation request
  localparam logic RX_INV_REQ = 1'b1;  // invalidate request, a message

  // Address type
  localparam logic [1:0] AT_UNTRANSLATED = 2'b00;
  localparam logic [1:0] AT_TRANSLATION = 2'b01;
  localparam logic [1:0] AT_TRANSLATED = 2'b10;

  // 152 bits. An invalidate completion has {29'b0, CC, Device ID, 16'b0} in addr[63:0] and its
  // ITag vector in itags.
  typedef struct packed {
    logic [31:0] itags;
    logic [1:0] kind;
    logic [1:0] at;
    logic [2:0] tc;
    logic relaxed;    // attribute: relaxed ordering
    logic id_order;   // attribute: ID-based ordering
    logic [7:0] tag;
    logic [15:0] requester;
    logic pasid_valid;
    logic [19:0] pasid;
    logic no_write;   // translation request: no write access asked for
    logic [12:0] len;
    logic [63:0] addr;
  } tx_header_t;

  // 84 bits.
  typedef struct packed {
    logic kind;
    logic [2:0] tc;
    logic [2:0] status;       // completion: 0 successful, 1 UR, 4 CA
    logic poisoned;
    logic [7:0] tag;
    logic [15:0] requester;   // invalidate request: who asks, and is to be answered
    logic [4:0] itag;
    logic pasid_valid;
    logic [19:0] pasid;
    logic [12:0] byte_count;  // completion: bytes that remain, those of this TLP included
    logic [12:0] len;         // bytes of payload in this TLP
  } rx_header_t;

  // One request of a client; it never crosses 4 KiB, and its data is complete before it asks.
  typedef struct packed {
    logic write;
    logic direct;       // an interrupt: its address is no IOVA
    logic pasid_valid;
    logic [19:0] pasid;
    logic [7:0] slot;   // read: handed back with the data
    logic [12:0] len;
    logic [63:0] addr;
  } dma_request_t;

  // A piece of the answer to a read: up to 16 bytes that start at `offset` of the request.
  typedef struct packed {
    logic [7:0] slot;
    logic [12:0] offset;
    logic [4:0] count;
    logic last;         // the request is over
    logic error;        // it failed; the rest of it will not come
    logic [BEAT_BITS-1:0] data;
  } dma_response_t;

  // What one translation belongs to.
  typedef struct packed {
    logic [51:0] page;
    logic pasid_valid;
    logic [19:0] pasid;
  } page_key_t;

  typedef struct packed {
    logic [51:0] page;
    logic [51:0] mask;  // ones where an address may differ
    logic pasid_valid;
    logic [19:0] pasid;
    logic all_pasids;   // Global Invalidate
  } inv_range_t;

  // Bits of a page number that a range coded as (address, S) leaves open: the run of ones from bit
  // 12 upwards, and the zero that ends it (PCIe Base Specification, chapter 10).
  function automatic logic [51:0] range_mask(input logic [51:0] page, input logic s);
    range_mask = s ? page ^ (page + 52'd1) : 52'd0;
  endfunction

  // Whether an invalidation of r concerns a translation of k.
  function automatic logic inv_hits(input inv_range_t r, input page_key_t k);
    logic inside_range;
    inside_range = ((k.page ^ r.page) & ~r.mask) == 52'd0;
    if (!r.pasid_valid) inv_hits = inside_range || k.pasid_valid;
    else inv_hits = inside_range && k.pasid_valid && (r.all_pasids || k.pasid == r.pasid);
  endfunction

  // Eight bytes as they came in memory order, as the number they are in a big-endian payload.
  function automatic logic [63:0] big_endian(input logic [63:0] raw);
    big_endian = {raw[7:0], raw[15:8], raw[23:16], raw[31:24],
                  raw[39:32], raw[47:40], raw[55:48], raw[63:56]};
  endfunction

endpackage
