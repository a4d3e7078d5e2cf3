// SPDX-License-Identifier: MIT
//
// The transmit side: descriptors become reads, several in flight; their data leaves in order.
//
// The reader cuts each descriptor at multiples of the maximum read request size, so no read crosses
// 4 KiB, and gives each read a slot of the reorder memory. The sender empties the slots in order,
// marks a frame as bad at its end if any part of it failed, and writes its completion.
// A beat on the wire may have fewer than 16 bytes in the middle of a frame, too (tkeep).

module dmabed_tx
  import dmabed_tlp_pkg::*;
#(
    parameter int SLOTS_LOG2 = 3,
    parameter int MRRS_MAX = 512,
    parameter int FRAME_BYTES = 9018
) (
    input  logic          clk,
    input  logic          rst,
    input  logic          passing,
    input  logic [2:0]    mrrs,        // maximum read request size: 128 bytes << mrrs
    input  logic          pasid_valid,
    input  logic [19:0]   pasid,

    output logic          m_tvalid,
    input  logic          m_tready,
    output logic [127:0]  m_tdata,
    output logic [15:0]   m_tkeep,
    output logic          m_tlast,
    output logic          m_tuser,     // with tlast: not to be sent

    // dmabed_ring
    input  logic          active,
    input  logic [31:0]   size,
    input  logic          desc_valid,
    input  logic [127:0]  desc,
    output logic          desc_pop,
    output logic          complete,
    output logic [31:0]   used,
    input  logic [63:0]   cq_addr,
    input  logic          phase,
    output logic          halt,
    output logic          endless,     // a whole ring without the end of a frame
    output logic          idle,

    // Clients: reads, completions
    output logic          read_valid,
    output dma_request_t  read_req,
    input  logic          read_granted,
    input  logic          read_refused,
    input  logic          rsp_valid,
    input  dma_response_t rsp,
    output logic          cpl_valid,
    output dma_request_t  cpl_req,
    output logic [127:0]  cpl_data,
    input  logic          cpl_granted,
    input  logic          cpl_refused,

    output logic          packet,
    output logic          error,
    output logic [31:0]   packet_bytes,
    output logic          fault,
    output logic [3:0]    fault_stage,
    output logic [63:0]   fault_iova
);

  import dmabed_pkg::tx_desc_t;
  import dmabed_pkg::completion_t;
  localparam int SLOTS = 1 << SLOTS_LOG2;
  localparam int ETHERNET_HEADER = 14;

  // ---------------------------------------------------------------- reader
  tx_desc_t d;
  assign d = desc;
  logic reading, eop;
  logic [15:0] left, chunk, id;
  logic [15:0] read_max, to_edge;
  logic [63:0] addr;
  logic [31:0] frame_len, frame_descs;
  logic slot_free, advance;
  logic [SLOTS_LOG2:0] entered, emptied;

  assign read_max = 16'd128 << mrrs;
  assign to_edge = read_max - (addr[15:0] & (read_max - 16'd1));
  assign chunk = left < to_edge ? left : to_edge;
  assign slot_free = entered - emptied != (SLOTS_LOG2+1)'(SLOTS);
  assign desc_pop = active && !reading && desc_valid && (passing || frame_descs != '0) && !endless;
  assign endless = active && !reading && frame_descs == size;

  assign read_valid = active && reading && slot_free;
  always @(*) begin
    read_req = '0;
    read_req.len = chunk[12:0];
    read_req.addr = addr;
    read_req.slot = 8'(entered[SLOTS_LOG2-1:0]);
    read_req.pasid_valid = pasid_valid;
    read_req.pasid = pasid_valid ? pasid : '0;
  end
  assign advance = read_valid && (read_granted || read_refused);

  // ---------------------------------------------------------------- slots
  logic [SLOTS-1:0] finished, failed, ends;
  logic [12:0] lens[SLOTS];
  logic [15:0] ids[SLOTS];
  logic [31:0] frame_lens[SLOTS], descs_used[SLOTS];
  logic [SLOTS_LOG2-1:0] in, out, back;
  assign in = entered[SLOTS_LOG2-1:0];
  assign out = emptied[SLOTS_LOG2-1:0];
  assign back = rsp.slot[SLOTS_LOG2-1:0];

  logic [127:0] row_data;
  logic [8:0] row;
  dmabed_reorder #(.SLOTS(SLOTS), .SLOT_BYTES(MRRS_MAX)) reorder (
      .clk, .write(rsp_valid), .write_slot(8'(back)), .write_offset(rsp.offset),
      .write_count(rsp.count), .write_data(rsp.data), .read_slot(8'(out)), .read_row(row),
      .read_data(row_data));

  always_ff @(posedge clk) begin
    if (desc_pop) begin
      reading <= 1'b1;
      left <= d.len;
      addr <= d.addr;
      eop <= d.flags[dmabed_pkg::TX_DESC_FLAGS_EOP_BIT];
      id <= d.id;
      frame_len <= (frame_descs == '0 ? '0 : frame_len) + 32'(d.len);
      frame_descs <= frame_descs + 1'b1;
    end
    if (advance) begin
      entered <= entered + 1'b1;
      lens[in] <= chunk[12:0];
      ids[in] <= id;
      frame_lens[in] <= frame_len;
      descs_used[in] <= frame_descs;
      finished[in] <= read_refused;
      failed[in] <= read_refused;
      ends[in] <= eop && (left == chunk || read_refused);
      addr <= addr + 64'(chunk);
      left <= left - chunk;
      if (left == chunk || read_refused) begin
        reading <= 1'b0;
        if (eop) frame_descs <= '0;
      end
    end
    if (rsp_valid && rsp.last) finished[back] <= 1'b1;
    if (rsp_valid && rsp.error) failed[back] <= 1'b1;
    if (rst || !active) begin
      reading <= 1'b0;
      frame_descs <= '0;
    end
    if (rst) entered <= '0;
  end

  // ---------------------------------------------------------------- sender
  logic occupied, sending, closing, mid_frame, frame_failed, reporting;
  logic last_row, bad_length, beat_taken, slot_over;
  logic [12:0] bytes_left;
  logic report_bad;
  logic [15:0] report_id;
  logic [31:0] report_len;

  // Reads that were sent and failed are reported when their slot is emptied.
  logic [SLOTS-1:0] failed_by_read;
  logic [63:0] addrs[SLOTS];
  logic refused_now, failed_now;
  assign refused_now = read_valid && read_refused;
  assign failed_now = slot_over && failed_by_read[out];

  assign occupied = entered != emptied;
  assign sending = occupied && finished[out] && !reporting;
  assign closing = !active && !occupied && !reading && mid_frame && !reporting;
  assign bytes_left = lens[out] - {row, 4'd0};
  assign last_row = failed[out] || bytes_left <= 13'd16;
  assign bad_length = frame_lens[out] < ETHERNET_HEADER || frame_lens[out] > FRAME_BYTES;

  assign m_tvalid = sending || closing;
  for (genvar b = 0; b < 16; b++) begin : gen_byte
    assign m_tdata[b*8+:8] = sending && !failed[out] && m_tkeep[b] ? row_data[b*8+:8] : 8'd0;
  end
  assign m_tlast = closing || (last_row && ends[out]);
  assign m_tuser = closing || (m_tlast && (frame_failed || failed[out] || bad_length));
  always @(*) begin
    m_tkeep = 16'h0001;
    if (sending && !failed[out]) m_tkeep = bytes_left >= 13'd16 ? 16'hffff : ~(16'hffff << bytes_left[3:0]);
  end
  assign beat_taken = m_tvalid && m_tready;
  assign slot_over = beat_taken && sending && last_row;

  completion_t c;
  always @(*) begin
    c.hash = '0;
    c.len = used[15:0];
    c.id = report_id;
    c.frame_len = report_len;
    c.status = '0;
    c.status[dmabed_pkg::COMPLETION_STATUS_PHASE_BIT] = phase;
    c.status[dmabed_pkg::COMPLETION_STATUS_EOP_BIT] = 1'b1;
    c.status[dmabed_pkg::COMPLETION_STATUS_SOP_BIT] = 1'b1;
    c.status[dmabed_pkg::COMPLETION_STATUS_ERROR_BIT] = report_bad;
  end
  assign cpl_valid = reporting && active;
  assign cpl_data = c;
  always @(*) begin
    cpl_req = '0;
    cpl_req.write = 1'b1;
    cpl_req.len = 13'd16;
    cpl_req.addr = cq_addr;
  end
  assign complete = reporting && cpl_granted;
  assign halt = reporting && cpl_refused;
  assign packet = slot_over && ends[out] && !m_tuser;
  assign error = (slot_over && ends[out] && m_tuser) || endless;
  assign packet_bytes = frame_lens[out];
  assign fault = halt || refused_now || failed_now;
  assign fault_stage = halt ? 4'd2 : 4'd1;
  assign fault_iova = halt ? cq_addr : refused_now ? addr : addrs[out];
  assign idle = !reading && !occupied && !reporting && !mid_frame;

  always_ff @(posedge clk) begin
    if (advance) begin
      failed_by_read[in] <= 1'b0;
      addrs[in] <= addr;
    end
    if (rsp_valid && rsp.error) failed_by_read[back] <= 1'b1;
  end

  always_ff @(posedge clk) begin
    if (beat_taken) begin
      mid_frame <= !m_tlast;
      row <= last_row ? '0 : row + 1'b1;
      frame_failed <= (frame_failed || (sending && failed[out])) && !m_tlast;
    end
    if (closing && beat_taken) row <= '0;
    if (slot_over) begin
      emptied <= emptied + 1'b1;
      if (ends[out]) begin
        reporting <= 1'b1;
        report_bad <= m_tuser;
        report_id <= ids[out];
        report_len <= frame_lens[out];
        used <= descs_used[out];
      end
    end
    if (reporting && (cpl_granted || cpl_refused || !active)) reporting <= 1'b0;
    if (rst) begin
      emptied <= '0;
      row <= '0;
      mid_frame <= 1'b0;
      frame_failed <= 1'b0;
      reporting <= 1'b0;
    end
  end

endmodule
