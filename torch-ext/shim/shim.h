// What every file of the shim shares: the way errors cross into Rust.
//
// An `extern "C"` function of this folder returns 0, or 1 after any C++
// exception; the message then waits in a thread-local string until
// `svgrl_last_error` fetches it. No exception leaves this folder.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

// tch's C_tensor is an at::Tensor on the heap.
using TensorPtr = at::Tensor*;

namespace svgrl {

void remember_error(const char* message) noexcept;

template <class F>
int guarded(F&& body) noexcept {
  try {
    body();
    return 0;
  } catch (const c10::Error& e) {
    remember_error(e.what_without_backtrace());
  } catch (const std::exception& e) {
    remember_error(e.what());
  } catch (...) {
    remember_error("an exception that is no std::exception");
  }
  return 1;
}

inline std::vector<at::Tensor> to_list(const TensorPtr* items, size_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (size_t i = 0; i < count; ++i) list.push_back(*items[i]);
  return list;
}

}  // namespace svgrl
