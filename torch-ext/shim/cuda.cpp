// Process groups over NCCL, and a GPU's name; compiled only with a CUDA libtorch (see build.rs).
#define USE_C10D_NCCL
#include "c10d.h"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/cuda/CUDAFunctions.h>

#include <cstdlib>
#include <cstring>

extern "C" int svgrl_group_nccl(StorePtr store, int rank, int size, int64_t timeout_ms, int device,
                                GroupPtr* out) {
  return svgrl::guarded([&] {
    // wait() then blocks until done and raises at the timeout, instead of a
    // watchdog ending the process with no word of who is missing.
    setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(device));
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(timeout_ms);
    *out = new GroupRef(c10::make_intrusive<c10d::ProcessGroupNCCL>(*store, rank, size, options));
  });
}

// out: room for `size` bytes; the name ends with a NUL.
extern "C" int svgrl_device_name(int device, char* out, size_t size) {
  return svgrl::guarded([&] {
    const auto* properties = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device));
    std::strncpy(out, properties->name, size - 1);
    out[size - 1] = '\0';
  });
}
