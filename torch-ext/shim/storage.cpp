// Tensors whose memory comes and goes while views of them stay.
#include "shim.h"

#include <c10/core/Allocator.h>

// Gives the memory under `tensor` and all its views back: none may be read until `svgrl_storage_allocate`.
extern "C" int svgrl_storage_release(TensorPtr tensor) {
  return svgrl::guarded([&] {
    auto* storage = tensor->storage().unsafeGetStorageImpl();
    storage->set_data_ptr_noswap(c10::DataPtr(nullptr, tensor->device()));
    storage->set_nbytes(size_t{0});
  });
}

// Memory for all of `tensor`, which is not filled.
extern "C" int svgrl_storage_allocate(TensorPtr tensor) {
  return svgrl::guarded([&] {
    auto* storage = tensor->storage().unsafeGetStorageImpl();
    auto* allocator = storage->allocator();
    if (!allocator) allocator = c10::GetAllocator(tensor->device().type());
    const size_t bytes = tensor->numel() * tensor->element_size();
    storage->set_data_ptr_noswap(allocator->allocate(bytes));
    storage->set_nbytes(bytes);
  });
}
