// SPDX-License-Identifier: MIT
//
// The DMA engine proper: clients on one side, the transaction layer on the other, and the device
// TLB between. Parameters: entries and ways of the cache, tags, translations under way.

module dmabed_dma
  import dmabed_tlp_pkg::*;
#(
    parameter int CLIENTS = 6,
    parameter int ATC_ENTRIES = 16,
    parameter int ATC_WAYS = 2,
    parameter int ATS_OUTSTANDING = 4,
    parameter int ATS_PAGES = 2,
    parameter int TAGS = 16,
    parameter int TIMEOUT = 16384,
    parameter int MPS_MAX = 512,
    parameter int MUTANT = 0
) (
    input  logic                clk,
    input  logic                rst,
    output logic                flr,           // a function-level reset takes effect

    input  logic                cfg_bus_master,
    input  logic                cfg_ats,
    input  logic                cfg_flr,
    input  logic [4:0]          cfg_stu,
    input  logic [15:0]         cfg_requester,
    output logic                cfg_settled,

    input  logic [CLIENTS-1:0]  req_valid,
    input  logic [CLIENTS*$bits(dma_request_t)-1:0] req,
    input  logic [CLIENTS*BEAT_BITS-1:0] req_data,
    output logic [CLIENTS-1:0]  granted,
    output logic [CLIENTS-1:0]  refused,
    output logic [CLIENTS-1:0]  take_beat,
    output logic [CLIENTS-1:0]  rsp_valid,
    output dma_response_t       rsp,

    input  logic                rx_tvalid,
    output logic                rx_tready,
    input  logic [BEAT_BITS-1:0] rx_tdata,
    input  logic                rx_tlast,
    input  rx_header_t          rx_tuser,
    output logic                tx_tvalid,
    input  logic                tx_tready,
    output logic [BEAT_BITS-1:0] tx_tdata,
    output logic                tx_tlast,
    output tx_header_t          tx_tuser,
    input  logic                np_credit,

    output logic [31:0]         inv_pending,
    output logic                atc_empty,
    output logic                unexpected
);

  logic reset, memory_idle, queues_idle, issue_idle, boundary, bus_master, ats, gate_hold, flush;
  logic look_hit, look_write, denied, room, ask, done, inv_valid;
  logic fill_valid, fill_read, fill_write;
  logic [CLIENTS-1:0] waiting, direct;
  logic [7:0] client, free_tag, find_tag, found_client, found_slot, expired_tag, alloc_slot;
  logic [7:0] rsp_client, result_client;
  page_key_t look_key, fill_key;
  logic [51:0] look_page, fill_page;
  logic free, alloc, alloc_translation, alloc_translated, posted_push, posted_ready, np_push;
  logic np_ready, data_push, cpl_valid, cpl_ready, rsp_any;
  logic [12:0] alloc_len, found_len, found_left, advance_by;
  tx_header_t header, cpl_header;
  logic [BEAT_BITS-1:0] data_word;
  logic found, found_dead, found_translation, found_failed, advance, fail, retire, expired, expire;
  logic result_valid, result_error, result_last, result_pair, result_ready;
  logic [127:0] result_data;
  inv_range_t range;
  logic [TAGS-1:0] stale, live;

  assign reset = rst || flr;
  assign memory_idle = queues_idle && issue_idle;

  dmabed_gate gate (
      .clk, .rst, .cfg_bus_master, .cfg_ats, .cfg_flr, .settled(cfg_settled), .memory_idle,
      .boundary, .bus_master, .ats, .hold(gate_hold), .flush, .flr);

  dmabed_issue #(.CLIENTS(CLIENTS), .PAGES(ATS_PAGES)) issue (
      .clk, .rst(reset), .hold(gate_hold || inv_valid), .translate(ats),
      .requester(cfg_requester), .idle(issue_idle), .req_valid, .req, .req_data, .granted,
      .refused, .take_beat, .look_key, .look_write, .look_hit, .look_page, .waiting, .denied,
      .direct, .room, .ask, .done, .client, .tag_free(free), .tag(free_tag), .alloc,
      .alloc_slot, .alloc_translation, .alloc_translated, .alloc_len, .posted_push,
      .posted_ready, .header, .data_push, .data_word, .np_push, .np_ready);

  // Mutant 8: nothing but an invalidate request ever empties the cache.
  dmabed_atc #(.ENTRIES(ATC_ENTRIES), .WAYS(ATC_WAYS), .MUTANT(MUTANT)) atc (
      .clk, .rst(rst || (flr && MUTANT != 8)), .look_key, .look_write, .look_hit, .look_page,
      .fill_valid, .fill_key, .fill_page, .fill_read, .fill_write, .inv_valid,
      .inv_range(range), .flush(flush && MUTANT != 8), .empty(atc_empty));

  dmabed_ats #(
      .CLIENTS(CLIENTS), .OUTSTANDING(ATS_OUTSTANDING), .PAGES(ATS_PAGES), .MUTANT(MUTANT)
  ) translations (
      .clk, .rst(reset), .flush, .stu(cfg_stu), .ask, .ask_client(client), .ask_key(look_key),
      .ask_write(look_write), .done, .done_client(client), .look_client(client), .look_key,
      .look_write, .waiting, .denied, .direct, .room, .result_valid, .result_client,
      .result_error, .result_last, .result_pair, .result_data, .result_ready, .fill_valid,
      .fill_key, .fill_page, .fill_read, .fill_write, .inv_valid, .inv_range(range));

  dmabed_tags #(.TAGS(TAGS), .TIMEOUT(TIMEOUT)) tags (
      .clk, .rst(reset), .flr, .alloc, .free, .free_tag, .alloc_client(client), .alloc_slot,
      .alloc_translation, .alloc_translated, .alloc_key(look_key), .alloc_len, .find_tag, .found,
      .found_dead, .found_translation, .found_failed, .found_client, .found_slot, .found_len,
      .found_left, .advance, .advance_by, .fail, .retire, .expired, .expired_tag, .expire,
      .inv_range(range), .stale, .live);

  dmabed_inval #(.TAGS(TAGS), .MUTANT(MUTANT)) invalidation (
      .clk, .rst(reset), .stu(cfg_stu), .requester(cfg_requester), .req_valid(inv_valid),
      .req_header(rx_tuser), .req_body(rx_tdata[63:0]), .range, .stale_tags(stale),
      .live_tags(live), .cpl_valid, .cpl_header, .cpl_ready, .pending(inv_pending));

  dmabed_ingress ingress (
      .clk, .rst(reset), .rx_tvalid, .rx_tready, .rx_tdata, .rx_tlast, .rx_tuser, .find_tag,
      .found, .found_dead, .found_translation, .found_failed, .found_client, .found_slot,
      .found_len, .found_left, .advance, .advance_by, .fail, .retire, .expired, .expired_tag,
      .expire, .rsp_valid(rsp_any), .rsp_client, .rsp, .result_valid, .result_client,
      .result_error, .result_last, .result_pair, .result_data, .result_ready, .inv_valid,
      .unexpected);

  dmabed_egress #(.MPS_MAX(MPS_MAX), .MUTANT(MUTANT)) egress (
      .clk, .rst(reset), .posted_push, .posted_header(header), .posted_ready, .data_push,
      .data_word, .np_push, .np_header(header), .np_ready, .message_valid(cpl_valid),
      .message_header(cpl_header), .message_ready(cpl_ready), .memory_idle(queues_idle),
      .boundary, .tx_tvalid, .tx_tready, .tx_tdata, .tx_tlast, .tx_tuser, .np_credit);

  for (genvar c = 0; c < CLIENTS; c++) begin : gen_response
    assign rsp_valid[c] = rsp_any && rsp_client == 8'(c);
  end

  logic unused;
  assign unused = bus_master;

endmodule
