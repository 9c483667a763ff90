// Counts what tensors on the CPU hold.
#include "shim.h"

#include <atomic>
#include <cstdlib>
#include <mutex>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

namespace {

std::atomic<int64_t> held{0};
std::atomic<int64_t> most{0};

// Before each block, so that the block itself stays as aligned: its size.
constexpr size_t HEADER = 64;

void drop(void* block) {
  if (!block) return;
  auto* header = static_cast<char*>(block) - HEADER;
  held -= *reinterpret_cast<int64_t*>(header);
  std::free(header);
}

// As the allocator that libtorch begins with, but that it counts.
struct Counting final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &drop, c10::Device(c10::DeviceType::CPU)};
    void* header = nullptr;
    TORCH_CHECK(posix_memalign(&header, HEADER, bytes + HEADER) == 0, "no memory for ", bytes, " bytes");
    *static_cast<int64_t*>(header) = static_cast<int64_t>(bytes);
    const int64_t now = held += static_cast<int64_t>(bytes);
    int64_t seen = most;
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
    void* block = static_cast<char*>(header) + HEADER;
    return {block, block, &drop, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &drop; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

std::once_flag counting;

}  // namespace

extern "C" int svgrl_count_cpu_memory() {
  return svgrl::guarded([] {
    std::call_once(counting, [] {
      static Counting* allocator = new Counting();
      // Above the priority of whatever else was set.
      c10::SetCPUAllocator(allocator, 255);
    });
  });
}

// out: held now, and the most since the last reset, in bytes.
extern "C" int svgrl_cpu_memory(int reset, int64_t* out) {
  return svgrl::guarded([&] {
    if (reset) most = held.load();
    out[0] = held;
    out[1] = most;
  });
}
