// What the parts of the pretended GPU know of each other.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace pretend {

// The same elements, sizes and strides, as a tensor of the CPU.
at::Tensor on_host(const at::Tensor& tensor);

// A new tensor of the device `like` lies on, with the numbers of `host`.
at::Tensor on_device(const at::Tensor& host, const at::Tensor& like);

// The devices' memory, and the device of this thread.
c10::Allocator& allocator();
c10::DeviceIndex current_device();

// Whether copies out of the tensor's memory are counted, and that they are from now on.
bool is_watched(const at::Tensor& tensor);
void watch(const at::Tensor& tensor);

// An operator that computes or copies on the device. Views and allocations are none.
void count_operator(const std::string& name);

// What the process did, as far as a device without kernels of its own can tell. How many kernels an
// operator would launch it cannot.
struct Counts {
  std::atomic<uint64_t> operators{0};
  // Operators on a stream that is not the default one, and how often a stream waited for another.
  std::atomic<uint64_t> beside{0}, waits{0};
  // Copies between host and device; the host waits for those to it.
  std::atomic<uint64_t> to_host{0}, to_device{0};
  // Bytes of watched memory that were copied on the device, and copied again.
  std::atomic<uint64_t> moved{0};
};
Counts& counts();

}  // namespace pretend
