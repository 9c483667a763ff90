// Process groups over Gloo, and the collectives of any group. Every call
// returns when this rank's part is done, or fails after the group's timeout;
// those called `_start` return at once, with what is to be waited for.
#define USE_C10D_GLOO
#include "c10d.h"

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <cstdlib>

namespace {

void finish(const c10::intrusive_ptr<c10d::Work>& work) {
  if (work) TORCH_CHECK(work->wait(), "the collective was aborted");
}

// One dimension: the backends differ in the shapes that they take.
at::Tensor flat(TensorPtr t) { return t->detach().view({-1}); }

}  // namespace

// `host` is the address that this rank listens on; empty: that of the machine's name.
// GLOO_SOCKET_IFNAME, the user's own choice, beats it.
extern "C" int svgrl_group_gloo(StorePtr store, int rank, int size, int64_t timeout_ms,
                                const char* host, GroupPtr* out) {
  return svgrl::guarded([&] {
    using c10d::ProcessGroupGloo;
    auto options = ProcessGroupGloo::Options::create(std::chrono::milliseconds(timeout_ms));
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
    if (interface && *interface)
      options->devices.push_back(ProcessGroupGloo::createDeviceForInterface(interface));
    else if (*host)
      options->devices.push_back(ProcessGroupGloo::createDeviceForHostname(host));
    else
      options->devices.push_back(ProcessGroupGloo::createDefaultDevice());
    *out = new GroupRef(c10::make_intrusive<ProcessGroupGloo>(*store, rank, size, options));
  });
}

// The deadline of every collective from here on.
extern "C" int svgrl_group_set_timeout(GroupPtr group, int64_t timeout_ms) {
  return svgrl::guarded([&] { (*group)->setTimeout(std::chrono::milliseconds(timeout_ms)); });
}

extern "C" void svgrl_group_free(GroupPtr group) {
  svgrl::guarded([&] { delete group; });
}

extern "C" int svgrl_group_all_reduce(GroupPtr group, TensorPtr tensor) {
  return svgrl::guarded([&] {
    std::vector<at::Tensor> tensors{flat(tensor)};
    finish((*group)->allreduce(tensors));
  });
}

extern "C" int svgrl_group_broadcast(GroupPtr group, TensorPtr tensor, int root) {
  return svgrl::guarded([&] {
    std::vector<at::Tensor> tensors{flat(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    finish((*group)->broadcast(tensors, options));
  });
}

extern "C" int svgrl_group_reduce_scatter(GroupPtr group, TensorPtr output, TensorPtr input) {
  return svgrl::guarded([&] {
    at::Tensor out = flat(output), in = flat(input);
    finish((*group)->_reduce_scatter_base(out, in));
  });
}

extern "C" int svgrl_group_all_gather(GroupPtr group, TensorPtr output, TensorPtr input) {
  return svgrl::guarded([&] {
    at::Tensor out = flat(output), in = flat(input);
    finish((*group)->_allgather_base(out, in));
  });
}

extern "C" int svgrl_group_reduce_scatter_start(GroupPtr group, TensorPtr output, TensorPtr input,
                                                WorkPtr* work) {
  return svgrl::guarded([&] {
    at::Tensor out = flat(output), in = flat(input);
    *work = new WorkRef((*group)->_reduce_scatter_base(out, in));
  });
}

extern "C" int svgrl_group_all_gather_start(GroupPtr group, TensorPtr output, TensorPtr input,
                                            WorkPtr* work) {
  return svgrl::guarded([&] {
    at::Tensor out = flat(output), in = flat(input);
    *work = new WorkRef((*group)->_allgather_base(out, in));
  });
}

extern "C" int svgrl_work_wait(WorkPtr work) {
  return svgrl::guarded([&] { finish(*work); });
}

extern "C" void svgrl_work_free(WorkPtr work) {
  svgrl::guarded([&] { delete work; });
}

// `output` holds the ranks' parts one after the other on `root`; elsewhere it is not looked at.
extern "C" int svgrl_group_gather(GroupPtr group, TensorPtr output, TensorPtr input, int root) {
  return svgrl::guarded([&] {
    std::vector<at::Tensor> in{flat(input)};
    std::vector<std::vector<at::Tensor>> out;
    if ((*group)->getRank() == root)
      out.push_back(at::chunk(flat(output), (*group)->getSize()));
    c10d::GatherOptions options;
    options.rootRank = root;
    finish((*group)->gather(out, in, options));
  });
}

// cuda_device: the device of an NCCL group, or -1.
extern "C" int svgrl_group_barrier(GroupPtr group, int cuda_device) {
  return svgrl::guarded([&] {
    c10d::BarrierOptions options;
    if (cuda_device >= 0) {
      options.device_ids = {cuda_device};
      options.device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(cuda_device));
    }
    finish((*group)->barrier(options));
  });
}
