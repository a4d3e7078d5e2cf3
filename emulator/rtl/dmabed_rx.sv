// SPDX-License-Identifier: MIT
//
// The receive side: frames from the wire go to posted buffers, then their completions are written.
//
// A frame is cut at the ends of buffers, and there at multiples of the maximum payload size, so no
// write crosses 4 KiB. A write is asked for when its data is complete: the wire can never hold up
// the posted queue. The completions of a frame come when all of it is written, so that each of them can
// say whether any part was refused.

module dmabed_rx
  import dmabed_tlp_pkg::*;
#(
    parameter int MPS_MAX = 512,
    parameter int PIECES_LOG2 = 6      // buffers of one frame at most, log2
) (
    input  logic          clk,
    input  logic          rst,
    input  logic          passing,     // the MAC is on and the link is up
    input  logic [15:0]   max_frame,
    input  logic [2:0]    mps,         // maximum payload size: 128 bytes << mps
    input  logic          pasid_valid,
    input  logic [19:0]   pasid,

    // The wire: full beats; every beat carries {length, hash} of its frame
    input  logic          s_tvalid,
    output logic          s_tready,
    input  logic [127:0]  s_tdata,
    input  logic          s_tlast,
    input  logic [47:0]   s_tuser,

    // dmabed_ring
    input  logic          active,
    input  logic          desc_valid,
    input  logic [127:0]  desc,
    output logic          desc_pop,
    output logic          complete,
    input  logic [63:0]   cq_addr,
    input  logic          phase,
    output logic          halt,
    output logic          idle,

    // Client
    output logic          req_valid,
    output dma_request_t  req,
    output logic [127:0]  req_data,
    input  logic          granted,
    input  logic          refused,
    input  logic          take_beat,

    // Statistics and faults
    output logic          packet,
    output logic          drop,
    output logic          error,
    output logic [31:0]   packet_bytes,
    output logic          fault,
    output logic [3:0]    fault_stage,
    output logic [63:0]   fault_iova
);

  import dmabed_pkg::rx_desc_t;
  import dmabed_pkg::completion_t;

  typedef enum logic [3:0] {
    IDLE, PIECE, CHUNK, FILL, WRITE, SEND, COMPLETE, SKIP, OVER
  } state_e;
  state_e state;

  localparam int BEATS = MPS_MAX / BEAT_BYTES;
  localparam int BEAT_INDEX = $clog2(BEATS);

  logic [15:0] length, remaining, piece_left, chunk;
  logic [31:0] hash;
  logic [63:0] addr;
  logic [15:0] filled, sent, beat_bytes;
  logic bad, lost, first_piece, all_in, dropping;
  logic [127:0] buffer[BEATS];

  rx_desc_t d;
  assign d = desc;

  // ---- the wire's side: beats of the frame at hand enter the aligner, no others
  logic taking, room, load, keep, skip_beat, fresh;
  logic [5:0] held;
  logic [127:0] front;
  logic [15:0] to_fill;
  assign taking = state != IDLE && state != COMPLETE && state != OVER && !all_in;
  assign s_tready = taking && (state == SKIP || room);
  assign load = s_tvalid && s_tready;
  assign keep = load && state != SKIP;
  assign fresh = rst || state == IDLE;
  assign to_fill = chunk - filled;
  assign beat_bytes = to_fill > 16'd16 ? 16'd16 : to_fill;
  assign skip_beat = state == FILL && {10'd0, held} >= beat_bytes;

  dmabed_align aligner (
      .clk, .clear(fresh), .load(keep), .load_data(s_tdata), .room,
      .held, .front, .take(skip_beat), .take_count(beat_bytes[4:0]));

  // ---- pieces written, for their completions
  logic [PIECES_LOG2:0] pieces;
  logic [15:0] piece_size;
  logic full;
  logic [31:0] piece;
  logic piece_pop;
  dmabed_fifo #(.WIDTH(32), .DEPTH_LOG2(PIECES_LOG2)) piece_queue (
      .clk, .rst(fresh), .push(desc_pop), .push_data({d.id, piece_size}),
      .pop(piece_pop), .head(piece), .count(pieces));

  assign piece_size = remaining < d.len ? remaining : d.len;
  assign full = pieces == (PIECES_LOG2+1)'(1 << PIECES_LOG2);
  assign desc_pop = state == PIECE && active && !full && desc_valid;

  logic [15:0] payload_max, to_edge;
  assign payload_max = 16'd128 << mps;
  assign to_edge = payload_max - (addr[15:0] & (payload_max - 16'd1));

  // ---- the completion of the piece at the head
  completion_t c;
  logic last_piece;
  assign last_piece = pieces == 1;
  always @(*) begin
    c.hash = hash;
    c.len = piece[15:0];
    c.id = piece[31:16];
    c.frame_len = {16'd0, length};
    c.status = '0;
    c.status[dmabed_pkg::COMPLETION_STATUS_PHASE_BIT] = phase;
    c.status[dmabed_pkg::COMPLETION_STATUS_EOP_BIT] = last_piece;
    c.status[dmabed_pkg::COMPLETION_STATUS_SOP_BIT] = first_piece;
    c.status[dmabed_pkg::COMPLETION_STATUS_ERROR_BIT] = bad;
  end

  assign req_valid = active && (state == WRITE || state == COMPLETE);
  always @(*) begin
    req = '0;
    req.write = 1'b1;
    req.len = state == COMPLETE ? 13'd16 : chunk[12:0];
    req.addr = state == COMPLETE ? cq_addr : addr;
    req.pasid_valid = pasid_valid && state != COMPLETE;
    req.pasid = req.pasid_valid ? pasid : '0;
  end
  assign req_data = state == COMPLETE ? c : buffer[sent[BEAT_INDEX+3:4]];
  assign complete = state == COMPLETE && granted;
  assign piece_pop = complete;
  assign halt = state == COMPLETE && refused;

  assign fault = refused && (state == WRITE || state == COMPLETE);
  assign fault_stage = state == COMPLETE ? 4'd2 : 4'd1;
  assign fault_iova = req.addr;

  assign idle = state == IDLE;
  assign packet = state == OVER && !bad && !dropping;
  assign error = state == OVER && bad && !dropping;
  assign drop = state == OVER && dropping;
  assign packet_bytes = {16'd0, length};

  logic end_of_chunk;
  assign end_of_chunk = (state == WRITE && refused) || (state == SEND && take_beat && sent + 16'd16 >= chunk)
      || (state == WRITE && granted && chunk <= 16'd16)
      || (state == FILL && lost && filled + beat_bytes >= chunk && skip_beat);

  always_ff @(posedge clk) begin
    if (load && s_tlast) all_in <= 1'b1;
    if (take_beat) sent <= sent + 16'd16;
    case (state)
      IDLE: begin
        all_in <= 1'b0;
        bad <= 1'b0;
        dropping <= 1'b0;
        first_piece <= 1'b1;
        {length, hash} <= s_tuser;
        remaining <= s_tuser[47:32];
        if (s_tvalid && passing && active) begin
          state <= PIECE;
          if (s_tuser[47:32] > max_frame) begin
            bad <= 1'b1;
            state <= SKIP;
          end
        end
      end
      PIECE: begin
        lost <= 1'b0;
        addr <= d.addr;
        piece_left <= piece_size;
        if (full) begin
          bad <= 1'b1;
          state <= SKIP;
        end else if (desc_valid) state <= CHUNK;
      end
      CHUNK: begin
        chunk <= piece_left < to_edge ? piece_left : to_edge;
        filled <= '0;
        sent <= '0;
        state <= FILL;
      end
      FILL: if (skip_beat) begin
        buffer[filled[BEAT_INDEX+3:4]] <= front;
        filled <= filled + beat_bytes;
        if (filled + beat_bytes >= chunk && !lost) state <= WRITE;
      end
      WRITE: if (refused) begin
        bad <= 1'b1;
        lost <= 1'b1;
      end else if (granted) state <= SEND;
      COMPLETE: if (refused) begin
        bad <= 1'b1;
        state <= OVER;
      end else if (complete) begin
        first_piece <= 1'b0;
        if (last_piece) state <= OVER;
      end
      SKIP: if (all_in || (load && s_tlast)) state <= pieces == '0 ? OVER : COMPLETE;
      OVER: state <= IDLE;
      default: ;
    endcase
    if (end_of_chunk) begin
      addr <= addr + 64'(chunk);
      piece_left <= piece_left - chunk;
      remaining <= remaining - chunk;
      if (piece_left != chunk) state <= CHUNK;
      else if (remaining != chunk) state <= PIECE;
      else state <= COMPLETE;
    end
    // A ring that stops takes its frame along, once no write is half done.
    if (!active && state != IDLE && state != OVER && state != SEND && !end_of_chunk && !granted) begin
      dropping <= 1'b1;
      state <= all_in || (load && s_tlast) ? OVER : SKIP;
    end
    if (rst) state <= IDLE;
  end

endmodule
