// Two pretended GPUs for a libtorch without CUDA, to be preloaded into a process.
//
// What a GPU asks of a program is that every tensor lies where its operators look
// for it. Here `cuda:0` and `cuda:1` are ranges of addresses that nobody may read:
// a tensor's bytes are reached through a second mapping of the same pages, which
// only this file knows. Operators run libtorch's CPU kernels on that mapping, after
// a check that all their tensors lie on one device. So results are a CPU's, while
// a tensor left behind on the host, a pointer read where it must not be, one
// device's tensor given to the other, or leave to round more than was asked for
// ends the test. Kernels of a real GPU, the order of their sums and speed are not
// shown by it; of streams, only who is on which.
//
// It counts: operators that compute or copy, copies between host and device, and
// bytes that are copied out of watched memory, blocks of exactly one of the sizes
// in PRETEND_GPU_WATCH ("4096,8192"), or out of such copies. PRETEND_GPU_COUNTS
// names the file that is told at the end. It cannot count launches: how many
// kernels a GPU's operator starts, and whether a graph starts them, is not to be
// seen here.
#include "pretend_gpu.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <unordered_map>

namespace {

constexpr c10::DeviceIndex DEVICES = 2;
constexpr size_t DEVICE_BYTES = size_t{4} << 30;

thread_local c10::DeviceIndex current = 0;
// The thread's stream on each device; 0 is the one that all share.
thread_local c10::StreamId streams[DEVICES] = {};

// --- memory ---

// All devices' pages, mapped twice: forbidden at `device`, usable at `host`.
struct Pages {
  char* device;
  char* host;

  Pages() {
    const size_t all = DEVICE_BYTES * DEVICES;
    const int file = memfd_create("pretend_gpu", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(all)) != 0) fail();
    device = map(file, all, PROT_NONE);
    host = map(file, all, PROT_READ | PROT_WRITE);
    close(file);
  }
  static char* map(int file, size_t bytes, int rights) {
    void* at = mmap(nullptr, bytes, rights, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (at == MAP_FAILED) fail();
    return static_cast<char*>(at);
  }
  [[noreturn]] static void fail() {
    std::perror("pretend_gpu");
    std::abort();
  }
};

const Pages& pages() {
  static const Pages made;
  return made;
}

char* host_side(const void* device_side) {
  const auto offset = static_cast<const char*>(device_side) - pages().device;
  TORCH_CHECK(offset >= 0 && static_cast<size_t>(offset) < DEVICE_BYTES * DEVICES,
              "pretend_gpu: a tensor on the device whose bytes are elsewhere");
  return pages().host + offset;
}

// Blocks of rounded sizes, reused; nothing goes back before the process ends.
class Memory final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(c10::kCUDA, current);
    if (bytes == 0) return {nullptr, nullptr, &release, device};
    size_t rounded = 512;
    while (rounded < bytes) rounded *= 2;
    std::lock_guard<std::mutex> lock(mutex_);
    Device& mine = devices_[current];
    auto& free = mine.free[rounded];
    char* block;
    if (free.empty()) {
      TORCH_CHECK_WITH(OutOfMemoryError, mine.used + rounded <= room_,
                       "CUDA out of memory. Tried to allocate ", bytes, " bytes.");
      block = pages().device + DEVICE_BYTES * static_cast<size_t>(current) + mine.used;
      mine.used += rounded;
    } else {
      block = free.back();
      free.pop_back();
    }
    sizes_[block] = {current, rounded};
    if (watch_.count(bytes) > 0) watched_.insert(block);
    mine.live += rounded;
    mine.peak = std::max(mine.peak, mine.live);
    // What a kernel reads before it is written shows as NaN.
    std::memset(host_side(block), 0xff, rounded);
    return {block, block, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(host_side(to), host_side(from), bytes);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex index) override {
    std::lock_guard<std::mutex> lock(mutex_);
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0].current = static_cast<int64_t>(devices_[index].live);
    stats.allocated_bytes[0].peak = static_cast<int64_t>(devices_[index].peak);
    stats.reserved_bytes[0].current = stats.reserved_bytes[0].peak =
        static_cast<int64_t>(devices_[index].used);
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  // Per device: the most bytes it held, and how often its last byte was given back.
  void report(std::FILE* file) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const Device& device : devices_) std::fprintf(file, "%zu %zu\n", device.peak, device.emptied);
  }
  // Whether the tensor lies in watched memory, or is a copy of such.
  bool watches(const at::Tensor& tensor) {
    if (watch_.empty() || !tensor.defined() || !tensor.is_cuda()) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    return watched_.count(tensor.storage().mutable_data()) > 0;
  }
  void watch(const at::Tensor& copy) {
    std::lock_guard<std::mutex> lock(mutex_);
    watched_.insert(copy.storage().mutable_data());
  }
  void resetPeakStats(c10::DeviceIndex index) override {
    std::lock_guard<std::mutex> lock(mutex_);
    devices_[index].peak = devices_[index].live;
  }

 private:
  struct Device {
    size_t used = 0, live = 0, peak = 0, emptied = 0;
    std::map<size_t, std::vector<char*>> free;
  };
  static void release(void* block);
  static size_t bytes_of_each() {
    const char* asked = std::getenv("PRETEND_GPU_BYTES");
    return asked == nullptr ? DEVICE_BYTES : std::min<size_t>(std::atoll(asked), DEVICE_BYTES);
  }
  const size_t room_ = bytes_of_each();
  std::mutex mutex_;
  Device devices_[DEVICES];
  std::unordered_map<void*, std::pair<c10::DeviceIndex, size_t>> sizes_;
  std::set<size_t> watch_ = watched_sizes();
  std::set<void*> watched_;

  static std::set<size_t> watched_sizes() {
    std::set<size_t> sizes;
    const char* named = std::getenv("PRETEND_GPU_WATCH");
    std::stringstream list(named == nullptr ? "" : named);
    for (std::string size; std::getline(list, size, ',');) sizes.insert(std::stoull(size));
    return sizes;
  }
};

Memory& memory() {
  static auto* made = new Memory;  // outlives every static tensor
  return *made;
}

void Memory::release(void* block) {
  if (block == nullptr) return;
  Memory& self = memory();
  std::lock_guard<std::mutex> lock(self.mutex_);
  const auto [device, bytes] = self.sizes_.at(block);
  Device& its = self.devices_[device];
  self.watched_.erase(block);
  its.live -= bytes;
  its.emptied += its.live == 0;
  its.free[bytes].push_back(static_cast<char*>(block));
}

// --- the device itself ---

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device to) const override {
    const c10::Device from = getDevice();
    setDevice(to);
    return from;
  }
  c10::Device getDevice() const override { return {c10::kCUDA, current}; }
  void setDevice(c10::Device to) const override { current = to.has_index() ? to.index() : current; }
  void uncheckedSetDevice(c10::Device to) const noexcept override { setDevice(to); }
  c10::Stream getStream(c10::Device device) const override {
    const auto index = device.has_index() ? device.index() : current;
    return c10::Stream(c10::Stream::UNSAFE, {c10::kCUDA, index}, streams[index]);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    static std::atomic<c10::StreamId> made{0};
    const auto index = device.has_index() ? device.index() : current;
    return c10::Stream(c10::Stream::UNSAFE, {c10::kCUDA, index}, ++made);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const auto index = stream.device_index();
    return c10::Stream(c10::Stream::UNSAFE, stream.device(), std::exchange(streams[index], stream.id()));
  }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  // Everything is done when its call returns.
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override { ++pretend::counts().waits; }
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

}  // namespace

// libtorch looks the class up by this name.
namespace at {
struct CUDAHooks : at::CUDAHooksInterface {
  CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return DEVICES; }
  c10::DeviceIndex deviceCount() const override { return DEVICES; }
  c10::DeviceIndex current_device() const override { return current; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex to) const override { current = to; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex to) const override {
    return std::exchange(current, to);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex to) const override {
    return std::exchange(current, to);
  }
  at::Allocator* getCUDADeviceAllocator() const override { return &memory(); }
  void deviceSynchronize(c10::DeviceIndex) const override {}
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static const at::Generator made = at::detail::createCPUGenerator();
    return made;
  }
};
REGISTER_CUDA_HOOKS(CUDAHooks)
}  // namespace at

namespace pretend {

at::Tensor on_host(const at::Tensor& tensor) {
  const auto options = tensor.options().device(at::kCPU).requires_grad(false);
  if (tensor.storage().nbytes() == 0) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  return at::from_blob(host_side(tensor.mutable_data_ptr()), tensor.sizes(), tensor.strides(), options);
}

at::Tensor on_device(const at::Tensor& host, const at::Tensor& like) {
  at::Tensor made = at::empty(host.sizes(), host.options().device(like.device()));
  on_host(made).copy_(host);
  return made;
}

c10::Allocator& allocator() { return memory(); }

c10::DeviceIndex current_device() { return current; }

bool is_watched(const at::Tensor& tensor) { return memory().watches(tensor); }

void watch(const at::Tensor& tensor) { memory().watch(tensor); }

Counts& counts() {
  static Counts made;
  return made;
}

std::mutex names_mutex;
std::map<std::string, uint64_t> names;

void count_operator(const std::string& name) {
  ++counts().operators;
  if (streams[current] != 0) ++counts().beside;
  std::lock_guard<std::mutex> lock(names_mutex);
  ++names[name];
}

}  // namespace pretend

namespace {

void report_at_exit() {
  const char* path = std::getenv("PRETEND_GPU_REPORT");
  std::FILE* file = path == nullptr ? nullptr : std::fopen(path, "w");
  if (file == nullptr) return;
  memory().report(file);
  std::fclose(file);
}

// One number a line, behind its name; then each operator's.
void tell_counts() {
  const char* path = std::getenv("PRETEND_GPU_COUNTS");
  std::FILE* file = path == nullptr ? nullptr : std::fopen(path, "w");
  if (file == nullptr) return;
  const auto tell = [&](const char* name, uint64_t number) { std::fprintf(file, "%s %llu\n", name, static_cast<unsigned long long>(number)); };
  const pretend::Counts& all = pretend::counts();
  tell("operators", all.operators);
  tell("beside", all.beside);
  tell("waits", all.waits);
  tell("to_host", all.to_host);
  tell("to_device", all.to_device);
  tell("moved", all.moved);
  for (const auto& [name, number] : pretend::names) tell(name.c_str(), number);
  std::fclose(file);
}

struct Registered {
  Registered() {
    c10::SetAllocator(c10::kCUDA, &memory());
    std::atexit(report_at_exit);
    std::atexit(tell_counts);
  }
} registered;

}  // namespace
