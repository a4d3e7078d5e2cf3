/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabed sink: trace events. Whoever knows which buffers a device was given can
 * tell from them whether one was given away while it was still being read.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dmabed_sink

#if !defined(SINK_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define SINK_TRACE_H

#include <linux/tracepoint.h>
#include <linux/types.h>

DECLARE_EVENT_CLASS(sink_buffer,
		    TP_PROTO(phys_addr_t phys, u32 len),
		    TP_ARGS(phys, len),
		    TP_STRUCT__entry(__field(u64, phys)
				     __field(u32, len)),
		    TP_fast_assign(__entry->phys = phys;
				   __entry->len = len;),
		    TP_printk("phys=0x%llx len=%u", __entry->phys, __entry->len)
);

/* A piece of a frame that is kept, from now on. */
DEFINE_EVENT(sink_buffer, sink_hold,
	     TP_PROTO(phys_addr_t phys, u32 len),
	     TP_ARGS(phys, len)
);

/* The same piece: it was looked at for the last time and is about to be freed. */
DEFINE_EVENT(sink_buffer, sink_release,
	     TP_PROTO(phys_addr_t phys, u32 len),
	     TP_ARGS(phys, len)
);

#endif /* SINK_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE sink_trace
#include <trace/define_trace.h>
