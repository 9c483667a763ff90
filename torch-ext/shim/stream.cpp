// A thread's own stream on a GPU, by libtorch's device-independent interface.
#include "shim.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

// From now on what this thread asks of the GPU goes to a stream of its own, which first waits for what
// was asked on the stream that all share.
extern "C" int svgrl_own_stream(int index) {
  return svgrl::guarded([&] {
    const c10::impl::VirtualGuardImpl gpu(c10::kCUDA);
    const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
    const c10::Device before = gpu.exchangeDevice(device);
    const c10::Stream own = gpu.getStreamFromGlobalPool(device, /*isHighPriority=*/false);
    c10::Event ready(c10::kCUDA);
    ready.record(gpu.getStream(device));
    ready.block(own);
    gpu.exchangeStream(own);
    gpu.setDevice(before);
  });
}
