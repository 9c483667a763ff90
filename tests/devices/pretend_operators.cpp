// Operators of the pretended GPU: every one runs its CPU kernel on the host side of its tensors, after a check
// that all of them lie on one device, and is counted.
#include "pretend_gpu.h"

#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <optional>
#include <utility>
#include <vector>

namespace {

using pretend::counts;
using pretend::on_host;

// `result` holds copies of watched memory if `from` lies in it.
void count_moved(const at::Tensor& from, const at::Tensor& result) {
  if (!pretend::is_watched(from)) return;
  counts().moved += result.numel() * result.element_size();
  if (!pretend::is_watched(result)) pretend::watch(result);
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(size, &pretend::allocator(), c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(size, stride, &pretend::allocator(),
                                           c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                           c10::dtype_or_default(dtype));
}

at::Tensor host_or_self(const at::Tensor& tensor) { return tensor.is_cuda() ? on_host(tensor) : tensor; }

void count_copy(const at::Tensor& from, const at::Tensor& to) {
  if (!to.is_cuda()) {
    ++counts().to_host;
  } else if (!from.is_cuda()) {
    ++counts().to_device;
  } else {
    pretend::count_operator("aten::copy_");
    count_moved(from, to);
  }
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& from, bool) {
  count_copy(from, self);
  host_or_self(self).copy_(host_or_self(from));
  return self;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  count_copy(from, to);
  host_or_self(to).copy_(host_or_self(from));
  return to;
}

at::Scalar local_scalar(const at::Tensor& self) {
  ++counts().to_host;
  return on_host(self).item();
}

const at::Tensor& resize_(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  auto* tensor = self.unsafeGetTensorImpl();
  const size_t needed = at::detail::computeStorageNbytesContiguous(
      size, self.element_size(), static_cast<size_t>(self.storage_offset()));
  auto& storage = tensor->unsafe_storage();
  if (storage.nbytes() < needed) {
    c10::OptionalDeviceGuard guard(self.device());
    auto larger = pretend::allocator().allocate(needed);
    if (storage.nbytes() > 0) pretend::allocator().copy_data(larger.get(), storage.data(), storage.nbytes());
    storage.set_data_ptr_noswap(std::move(larger));
    storage.set_nbytes(needed);
  }
  tensor->set_sizes_contiguous(size);
  return self;
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size,
                        at::IntArrayRef stride) {
  auto* tensor = self.unsafeGetTensorImpl();
  tensor->set_storage_keep_dtype(std::move(source));
  tensor->set_storage_offset(offset);
  tensor->set_sizes_and_strides(size, stride);
  return self;
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return set_storage(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

// Runs an operator's CPU kernel on the host side of its tensors.
class HostCall {
 public:
  HostCall(const c10::OperatorHandle& op, torch::jit::Stack* stack)
      : op_(op), schema_(op.schema()), stack_(stack) {}

  void run() {
    const size_t count = schema_.arguments().size();
    const auto arguments = torch::jit::last(*stack_, count);
    const size_t first = stack_->size() - count;
    find_device(arguments);
    check_precision(arguments);
    for (size_t i = 0; i < count; ++i) replace((*stack_)[first + i], written(i));
    op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack_);
    for (auto& [device, host] : fresh_) {
      resize_(device, host.sizes(), {});
      on_host(device).copy_(host);
    }
    const size_t results = stack_->size() - schema_.returns().size();
    for (size_t i = results; i < stack_->size(); ++i) give((*stack_)[i]);
    tally(results);
  }

 private:
  void tally(size_t results) {
    const auto& name = schema_.name();
    pretend::count_operator(name);
    // Their sizes are known when they are done: the host waits.
    if (name == "aten::nonzero" || name == "aten::equal" || name == "aten::masked_select" || name == "aten::_unique2")
      ++counts().to_host;
    if (name != "aten::index_select" && name != "aten::cat" && name != "aten::index" && name != "aten::gather" &&
        name != "aten::repeat_interleave")
      return;
    for (const auto& [device, host] : pairs_) {
      if (!pretend::is_watched(device)) continue;
      count_moved(device, (*stack_)[results].toTensor());
      return;
    }
  }

  bool written(size_t argument) const {
    const auto* alias = schema_.arguments()[argument].alias_info();
    return alias != nullptr && alias->isWrite();
  }

  // Index tensors may lie on the host, as they may with a real GPU.
  bool host_indices() const {
    const auto& name = schema_.name();
    return name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_" ||
           name == "aten::_unsafe_index";
  }

  void look(const at::Tensor& tensor) {
    if (!tensor.defined()) return;
    if (!tensor.is_cuda()) {
      TORCH_CHECK(tensor.dim() == 0 || host_indices(), schema_.name(),
                  ": a tensor of shape ", tensor.sizes(), " on ", tensor.device(), " beside others on a GPU");
      return;
    }
    TORCH_CHECK(!device_ || *device_ == tensor.device(), schema_.name(), ": tensors on ", *device_, " and ",
                tensor.device());
    device_ = tensor.device();
  }

  void find_device(c10::ArrayRef<c10::IValue> arguments) {
    std::optional<at::Device> named;
    for (const auto& value : arguments) {
      if (value.isTensor()) look(value.toTensor());
      if (value.isTensorList())
        for (const at::Tensor& tensor : value.toTensorVector()) look(tensor);
      if (value.isOptionalTensorList())
        for (const auto& tensor : value.toOptionalTensorVector())
          if (tensor) look(*tensor);
      if (value.isDevice()) named = value.toDevice();
    }
    if (!device_) device_ = named.value_or(at::Device(at::kCUDA, pretend::current_device()));
    if (!device_->has_index()) device_ = at::Device(at::kCUDA, pretend::current_device());
  }

  // A real GPU would round more than the program asked for, unless it was told not to.
  void check_precision(c10::ArrayRef<c10::IValue> arguments) const {
    const auto& context = at::globalContext();
    const bool convolution = schema_.name().find("conv") != std::string::npos;
    for (const auto& value : arguments) {
      if (!value.isTensor() || !value.toTensor().defined()) continue;
      const auto kind = value.toTensor().scalar_type();
      TORCH_CHECK(kind != at::kFloat || !convolution || !context.allowTF32CuDNN(at::Float32Op::CONV),
                  schema_.name(), ": float32 would be TF32");
      TORCH_CHECK(kind != at::kHalf || context.allowFP16ReductionCuBLAS() !=
                                           at::CuBLASReductionOption::AllowReducedPrecisionWithSplitK,
                  schema_.name(), ": float16 would be summed in float16");
    }
  }

  at::Tensor host(const at::Tensor& tensor, bool written) {
    if (!tensor.defined() || !tensor.is_cuda()) return tensor;
    at::Tensor seen = on_host(tensor);
    // An output that the kernel will resize.
    if (written && tensor.numel() == 0) {
      seen = at::empty({0}, seen.options());
      fresh_.emplace_back(tensor, seen);
    }
    pairs_.emplace_back(tensor, seen);
    return seen;
  }

  void replace(c10::IValue& value, bool written) {
    if (value.isTensor()) {
      value = host(value.toTensor(), written);
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(host(tensor, written));
      value = std::move(list);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const auto& tensor : value.toOptionalTensorVector())
        list.push_back(tensor ? std::optional<at::Tensor>(host(*tensor, written)) : std::nullopt);
      value = std::move(list);
    } else if (value.isDevice()) {
      value = at::Device(at::kCPU);
    }
  }

  at::Tensor given(const at::Tensor& result) {
    if (!result.defined()) return result;
    for (const auto& [device, host] : pairs_)
      if (result.is_same(host)) return device;
    for (const auto& [device, host] : pairs_) {
      if (result.storage().nbytes() == 0 || result.scalar_type() != host.scalar_type()) continue;
      const auto* begin = static_cast<const char*>(host.storage().data());
      const auto* at = static_cast<const char*>(result.const_data_ptr());
      if (result.storage().data() != begin) continue;
      const auto offset = (at - begin) / static_cast<int64_t>(result.element_size());
      return at::native::as_strided_tensorimpl(device, result.sizes(), result.strides(),
                                               device.storage_offset() + offset);
    }
    auto moved = empty_strided(result.sizes(), result.strides(), result.scalar_type(), {}, device_, {});
    on_host(moved).copy_(result);
    return moved;
  }

  void give(c10::IValue& value) {
    if (value.isTensor()) {
      value = given(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(given(tensor));
      value = std::move(list);
    }
  }

  const c10::OperatorHandle& op_;
  const c10::FunctionSchema& schema_;
  torch::jit::Stack* stack_;
  std::optional<at::Device> device_;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_, fresh_;
};

void on_the_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) { HostCall(op, stack).run(); }

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_host>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("_copy_from", &copy_from);
  m.impl("_local_scalar_dense", &local_scalar);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("unfold", &at::native::unfold);
}

}  // namespace
