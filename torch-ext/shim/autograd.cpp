// Gradients: a caller's own storage for them, and output gradients.
#include "shim.h"

#include <torch/csrc/autograd/autograd.h>

extern "C" int svgrl_set_grad(TensorPtr param, TensorPtr grad) {
  return svgrl::guarded([&] {
    TORCH_CHECK(param->requires_grad() && param->is_leaf(),
                "the parameter must be a leaf that requires a gradient");
    TORCH_CHECK(param->sizes() == grad->sizes(), "gradient of shape ", grad->sizes(),
                " for a parameter of shape ", param->sizes());
    TORCH_CHECK(param->scalar_type() == grad->scalar_type(), "gradient of type ",
                grad->scalar_type(), " for a parameter of type ", param->scalar_type());
    TORCH_CHECK(param->device() == grad->device(), "gradient on ", grad->device(),
                " for a parameter on ", param->device());
    TORCH_CHECK(!grad->requires_grad(), "the gradient must not require a gradient itself");
    param->mutable_grad() = *grad;
  });
}

extern "C" int svgrl_backward(TensorPtr output, TensorPtr output_grad, int keep_graph) {
  return svgrl::guarded([&] {
    torch::autograd::backward({*output}, {*output_grad}, keep_graph != 0);
  });
}
