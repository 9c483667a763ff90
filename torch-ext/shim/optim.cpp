// The multi-tensor kernels of the optimizer step.
#include "shim.h"

#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>

extern "C" int svgrl_fused_adamw(const TensorPtr* params, const TensorPtr* grads,
                                 const TensorPtr* exp_avg, const TensorPtr* exp_avg_sq,
                                 const TensorPtr* steps, size_t count, const double* scalars) {
  return svgrl::guarded([&] {
    // scalars: lr, beta1, beta2, weight_decay, eps
    auto p = svgrl::to_list(params, count);
    auto g = svgrl::to_list(grads, count);
    auto m = svgrl::to_list(exp_avg, count);
    auto v = svgrl::to_list(exp_avg_sq, count);
    auto s = svgrl::to_list(steps, count);
    at::_fused_adamw_(p, g, m, v, {}, s, scalars[0], scalars[1], scalars[2], scalars[3],
                      scalars[4], /*amsgrad=*/false, /*maximize=*/false);
  });
}

extern "C" int svgrl_foreach_norm(const TensorPtr* tensors, size_t count, TensorPtr* out) {
  return svgrl::guarded([&] {
    auto norms = at::_foreach_norm(svgrl::to_list(tensors, count), 2, at::kFloat);
    for (size_t i = 0; i < count; ++i) out[i] = new at::Tensor(norms[i]);
  });
}
