# SPDX-License-Identifier: MIT
"""Lines of the guest's tracer, as Linux 6.12 prints them."""

from emulator.ledger.join import Traced, TraceEvent
from vm.trace import Trace, parse

TEXT = """\
# tracer: nop
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
              ip-132     [000] .....     4.141287: map: IOMMU: iova=0x00000000fffff000 - \
0x0000000100000000 paddr=0x0000000006557000 size=4096
              ip-132     [000] .....     4.141952: dma_alloc: 0000:01:00.0 dir=BIDIRECTIONAL \
dma_addr=fffff000 size=4096 virt_addr=00000000ecd95946 flags=GFP_KERNEL attrs=
              ip-132     [000] .....     4.143194: dma_map_page: 0000:01:00.0 dir=FROM_DEVICE \
dma_addr=ffffb040 size=3712 phys_addr=4d61040 attrs=WEAK_ORDERING|SKIP_CPU_SYNC
              ip-132     [000] .....     4.143409: page_pool_state_hold: \
page_pool=00000000d5e9afdc netmem=000000005f8927b6 is_net_iov=0, pfn=0x4d61 hold=1
 my task: map-7        [001] ..s1.     4.803800: head: (napi_build_skb+0x4/0xb0) \
data=0xffff888005cb6000
          <idle>-0     [000] ..s1.    14.801864: dma_unmap_page: 0000:02:00.0 dir=FROM_DEVICE \
dma_addr=ffffb040 size=3712 attrs=
              ip-143   [000] .N...    14.350820: page_pool_state_release: \
page_pool=00000000d5e9afdc netmem=00000000fa9607fe is_net_iov=0 pfn=0x647e release=246
              ip-143   [000] .....    14.351342: dma_free: 0000:01:00.0 dir=BIDIRECTIONAL \
dma_addr=ffffc000 size=8192 virt_addr=00000000fc8f18ae attrs=
          <idle>-0     [000] ..s1.    15.000000: sched_switch: prev_comm=x
"""


def test_line_of_the_tracer_is_misread():
    first, second = "0000:01:00.0", "0000:02:00.0"
    assert list(parse(TEXT)) == [
        (None, TraceEvent(4_141_287_000, Traced.TABLE, 0xFFFFF000, 4096)),
        (first, TraceEvent(4_141_952_000, Traced.ALLOCATED, 0xFFFFF000, 4096)),
        (first, TraceEvent(4_143_194_000, Traced.MAPPED, 0xFFFFB040, 3712, 0x4D61040)),
        (None, TraceEvent(4_143_409_000, Traced.HOLD, 0x4D61)),
        (None, TraceEvent(4_803_800_000, Traced.HEAD, 0x5CB6000)),
        (second, TraceEvent(14_801_864_000, Traced.UNMAPPED, 0xFFFFB040, 3712)),
        (None, TraceEvent(14_350_820_000, Traced.RELEASE, 0x647E)),
        (first, TraceEvent(14_351_342_000, Traced.FREEING, 0xFFFFC000, 8192)),
    ]


def test_events_of_the_other_device_are_taken_for_ours():
    trace = Trace(tuple(parse(TEXT)), 0)
    assert [event.kind for event in trace.of("0000:02:00.0")] == [
        Traced.TABLE, Traced.HOLD, Traced.HEAD, Traced.UNMAPPED, Traced.RELEASE,
    ]  # fmt: skip
