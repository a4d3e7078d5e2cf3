// SPDX-License-Identifier: MIT
//
// The NIC's DMA side as one block. Around it: a MAC (frames as AXI4-Stream, their flow hash and
// queue already found), a transaction layer (TLPs as AXI4-Stream, header decoded in tuser),
// configuration space (the cfg_ wires), and an AXI4-Lite master for BAR 0 and, from 64 KiB on, the
// MSI-X table. docs/rtl.md has the picture.

module dmabed_nic
  import dmabed_tlp_pkg::*;
#(
    parameter int QUEUES = 1,
    parameter int ATC_ENTRIES = 16,
    parameter int ATC_WAYS = 2,
    parameter int ATS_OUTSTANDING = 4,
    parameter int ATS_PAGES = 2,       // translations per request: 1 or 2
    parameter int TAGS = 16,
    parameter int TIMEOUT = 16384,     // cycles until a request counts as lost
    parameter int SLOTS_LOG2 = 3,      // transmit reads in flight, log2
    parameter int CLOCK_MHZ = 250,
    parameter int MUTANT = 0           // a planted bug, 1 to 8; see docs/rtl.md
) (
    input  logic         clk,
    input  logic         rst,

    `AXIL_PORTS(17),

    input  logic         link_up,
    input  logic [47:0]  power_on_mac,
    output logic         mac_enable,
    output logic         mac_promisc,
    output logic         mac_allmulti,
    output logic [47:0]  mac_address,
    output logic [7:0]   mac_rss_queues,
    output logic [31:0]  note,

    // Frames from the wire: tuser = {queue 4, length 16, hash 32}
    input  logic         s_rx_tvalid,
    output logic         s_rx_tready,
    input  logic [127:0] s_rx_tdata,
    input  logic         s_rx_tlast,
    input  logic [51:0]  s_rx_tuser,
    // Frames to the wire: tuser with tlast = do not send
    output logic         m_tx_tvalid,
    input  logic         m_tx_tready,
    output logic [127:0] m_tx_tdata,
    output logic [15:0]  m_tx_tkeep,
    output logic         m_tx_tlast,
    output logic         m_tx_tuser,

    input  logic         cfg_bus_master,
    input  logic         cfg_ats,
    input  logic         cfg_flr,
    input  logic [4:0]   cfg_stu,
    input  logic [2:0]   cfg_mps,
    input  logic [2:0]   cfg_mrrs,
    input  logic [15:0]  cfg_requester,
    input  logic         cfg_msix_enable,
    input  logic         cfg_msix_mask,
    input  logic         cfg_pasid_valid,  // payloads carry cfg_pasid
    input  logic [19:0]  cfg_pasid,
    output logic         cfg_settled,

    input  logic         rx_tvalid,
    output logic         rx_tready,
    input  logic [127:0] rx_tdata,
    input  logic         rx_tlast,
    input  rx_header_t   rx_tuser,
    output logic         tx_tvalid,
    input  logic         tx_tready,
    output logic [127:0] tx_tdata,
    output logic         tx_tlast,
    output tx_header_t   tx_tuser,
    input  logic         np_credit,

    // For whoever watches
    output logic [31:0]  inv_pending,
    output logic         atc_empty,
    output logic         unexpected
);

  localparam int MPS_MAX = 512;
  localparam int MRRS_MAX = 512;
  localparam int RING_LOG2_MIN = 6;
  localparam int RING_LOG2_MAX = 12;
  localparam int FRAME_BYTES = 9018;
  localparam int CLIENTS = 5 * QUEUES + 1;
  localparam int VECTORS = QUEUES + 1;
  localparam int REQ = $bits(dma_request_t);

  logic flr, hard_rst, write, read;
  logic [16:0] write_addr, read_addr;
  logic [31:0] write_data, read_data, global_data, msix_data;
  logic [31:0] queue_data[QUEUES];
  assign hard_rst = rst || flr;

  dmabed_axil axil (
      .clk, .rst, `AXIL_CONNECT,
      .write, .write_addr, .write_data, .read, .read_addr, .read_data);

  // CTRL.reset: rings stop, what is in flight comes home, then the registers start anew.
  logic reset_asked, quiesce, soft_rst, ready, enable, all_idle;
  logic [QUEUES-1:0] queue_idle;
  assign all_idle = queue_idle == '1;
  assign soft_rst = quiesce && all_idle;
  assign ready = !quiesce;
  always_ff @(posedge clk) begin
    if (hard_rst || soft_rst) quiesce <= 1'b0;
    else if (reset_asked) quiesce <= 1'b1;
  end

  logic [15:0] max_frame;
  logic raise_events, passing;
  logic [QUEUES-1:0] interrupt, ring_fault, dma_fault, fault_tx, fault_write;
  logic [3:0] fault_stage[QUEUES];
  logic [63:0] fault_iova[QUEUES];
  localparam int QUEUE = QUEUES > 1 ? $clog2(QUEUES) : 1;
  logic [QUEUE-1:0] fault_queue;
  assign passing = enable && link_up && !quiesce;
  assign mac_enable = passing;

  always @(*) begin
    fault_queue = '0;
    for (int q = QUEUES - 1; q >= 0; q--) if (dma_fault[q]) fault_queue = QUEUE'(q);
  end

  dmabed_regs #(
      .QUEUES(QUEUES), .RING_LOG2_MIN(RING_LOG2_MIN), .RING_LOG2_MAX(RING_LOG2_MAX),
      .FRAME_BYTES(FRAME_BYTES)
  ) registers (
      .clk, .rst(hard_rst), .soft_rst, .power_on_mac, .write(write && !write_addr[16]),
      .write_addr(write_addr[15:0]), .write_data, .read_addr(read_addr[15:0]),
      .read_data(global_data), .link_up, .reset_asked, .ready, .enable, .max_frame,
      .mac(mac_address), .promisc(mac_promisc), .allmulti(mac_allmulti),
      .rss_queues(mac_rss_queues), .note, .ring_fault(ring_fault != '0),
      .dma_fault(dma_fault != '0), .fault_queue(8'(fault_queue)), .fault_stage(fault_stage[fault_queue]),
      .fault_tx(fault_tx[fault_queue]), .fault_write(fault_write[fault_queue]),
      .fault_iova(fault_iova[fault_queue]), .raise(raise_events));

  logic [CLIENTS-1:0] req_valid, granted, refused, take_beat, rsp_valid;
  logic [CLIENTS*REQ-1:0] req;
  logic [CLIENTS*BEAT_BITS-1:0] req_data;
  dma_response_t rsp;
  logic [QUEUES-1:0] rx_ready, out_tvalid, out_tready, out_tlast, out_tuser;
  logic [QUEUES*128-1:0] out_tdata;
  logic [QUEUES*16-1:0] out_tkeep;

  for (genvar q = 0; q < QUEUES; q++) begin : gen_queue
    logic write_here, read_here, frame_here;
    assign write_here = write && ready && write_addr[16:8] == 9'h010 + 9'(q);
    assign read_here = read && read_addr[16:8] == 9'h010 + 9'(q);
    assign frame_here = s_rx_tuser[51:48] == 4'(q);
    dmabed_queue_pair #(
        .RING_LOG2_MIN(RING_LOG2_MIN), .RING_LOG2_MAX(RING_LOG2_MAX), .FRAME_BYTES(FRAME_BYTES),
        .CLOCK_MHZ(CLOCK_MHZ), .SLOTS_LOG2(SLOTS_LOG2), .MPS_MAX(MPS_MAX), .MRRS_MAX(MRRS_MAX)
    ) pair (
        .clk, .rst(hard_rst || soft_rst), .quiesce, .idle(queue_idle[q]), .write(write_here),
        .write_addr(write_addr[7:0]), .write_data, .read(read_here), .read_addr(read_addr[7:0]),
        .read_data(queue_data[q]), .passing, .max_frame, .mps(cfg_mps), .mrrs(cfg_mrrs),
        .pasid_valid(cfg_pasid_valid), .pasid(cfg_pasid),
        .s_rx_tvalid(s_rx_tvalid && frame_here), .s_rx_tready(rx_ready[q]),
        .s_rx_tdata, .s_rx_tlast, .s_rx_tuser(s_rx_tuser[47:0]),
        .m_tx_tvalid(out_tvalid[q]), .m_tx_tready(out_tready[q]),
        .m_tx_tdata(out_tdata[q*128+:128]), .m_tx_tkeep(out_tkeep[q*16+:16]),
        .m_tx_tlast(out_tlast[q]), .m_tx_tuser(out_tuser[q]),
        .req_valid(req_valid[q*5+:5]), .req(req[q*5*REQ+:5*REQ]),
        .req_data(req_data[q*5*BEAT_BITS+:5*BEAT_BITS]), .granted(granted[q*5+:5]),
        .refused(refused[q*5+:5]), .take_beat(take_beat[q*5+:5]), .rsp_valid(rsp_valid[q*5+:5]),
        .rsp, .interrupt(interrupt[q]), .ring_fault(ring_fault[q]), .dma_fault(dma_fault[q]),
        .fault_stage(fault_stage[q]), .fault_tx(fault_tx[q]), .fault_write(fault_write[q]),
        .fault_iova(fault_iova[q]));
  end

  always @(*) begin
    s_rx_tready = 1'b0;
    for (int q = 0; q < QUEUES; q++) if (s_rx_tuser[51:48] == 4'(q)) s_rx_tready = rx_ready[q];
    read_data = global_data;
    for (int q = 0; q < QUEUES; q++) if (read_addr[16:8] == 9'h010 + 9'(q)) read_data = queue_data[q];
    if (read_addr[16]) read_data = read_addr[15:12] == '0 ? msix_data : '0;
  end

  dmabed_merge #(.INPUTS(QUEUES)) merge (
      .clk, .rst(hard_rst || soft_rst), .s_tvalid(out_tvalid), .s_tready(out_tready),
      .s_tdata(out_tdata), .s_tkeep(out_tkeep), .s_tlast(out_tlast), .s_tuser(out_tuser),
      .m_tvalid(m_tx_tvalid), .m_tready(m_tx_tready), .m_tdata(m_tx_tdata), .m_tkeep(m_tx_tkeep),
      .m_tlast(m_tx_tlast), .m_tuser(m_tx_tuser));

  dmabed_msix #(.VECTORS(VECTORS)) msix (
      .clk, .rst(hard_rst), .forget(soft_rst), .enable(cfg_msix_enable),
      .mask_all(cfg_msix_mask), .write(write && write_addr[16:12] == 5'h10),
      .write_addr(write_addr[11:0]), .write_data, .read_addr(read_addr[11:0]),
      .read_data(msix_data), .raise({interrupt, raise_events}),
      .req_valid(req_valid[CLIENTS-1]), .req(req[(CLIENTS-1)*REQ+:REQ]),
      .req_data(req_data[(CLIENTS-1)*BEAT_BITS+:BEAT_BITS]), .granted(granted[CLIENTS-1]));

  dmabed_dma #(
      .CLIENTS(CLIENTS), .ATC_ENTRIES(ATC_ENTRIES), .ATC_WAYS(ATC_WAYS),
      .ATS_OUTSTANDING(ATS_OUTSTANDING), .ATS_PAGES(ATS_PAGES), .TAGS(TAGS), .TIMEOUT(TIMEOUT),
      .MPS_MAX(MPS_MAX), .MUTANT(MUTANT)
  ) dma (
      .clk, .rst, .flr, .cfg_bus_master, .cfg_ats, .cfg_flr, .cfg_stu, .cfg_requester,
      .cfg_settled, .req_valid, .req, .req_data, .granted, .refused, .take_beat, .rsp_valid,
      .rsp, .rx_tvalid, .rx_tready, .rx_tdata, .rx_tlast, .rx_tuser, .tx_tvalid, .tx_tready,
      .tx_tdata, .tx_tlast, .tx_tuser, .np_credit, .inv_pending, .atc_empty, .unexpected);

endmodule
