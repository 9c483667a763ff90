// The steps of a decoder layer between its matrix products, for new tokens.
#include "kernels.h"
#include "shim.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

namespace {

// Elements one thread should have before a second one pays.
constexpr int64_t GRAIN = 16384;

int64_t rows_per_thread(int64_t width) { return std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, width)); }

void check_float(const at::Tensor& t, const char* name) {
  TORCH_CHECK(t.device().is_cpu() && t.scalar_type() == at::kFloat && t.is_contiguous(), name,
              " must be a contiguous float32 tensor on the CPU");
}

void check_shape(const at::Tensor& t, const char* name, at::IntArrayRef shape) {
  check_float(t, name);
  TORCH_CHECK(t.sizes() == shape, name, " must have shape ", shape, ", got ", t.sizes());
}

void check_index(const at::Tensor& t, const char* name, int64_t rows, int64_t bound) {
  TORCH_CHECK(t.device().is_cpu() && t.scalar_type() == at::kLong && t.is_contiguous() &&
                  t.dim() == 1 && t.size(0) == rows,
              name, " must be a contiguous int64 tensor of shape [", rows, "] on the CPU, got ",
              t.sizes());
  const int64_t* values = t.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows; ++i)
    TORCH_CHECK(values[i] >= 0 && values[i] < bound, name, " must be below ", bound, ", got ",
                values[i]);
}

void normalise(const at::Tensor& x, const at::Tensor* residual, const at::Tensor& weight, float eps,
               at::Tensor* sum, at::Tensor& out) {
  check_float(x, "x");
  TORCH_CHECK(x.dim() == 2, "x must have 2 dimensions, got ", x.dim());
  const int64_t rows = x.size(0), width = x.size(1);
  check_shape(weight, "weight", {width});
  if (residual) check_shape(*residual, "residual", x.sizes());
  out = at::empty(x.sizes(), x.options());
  if (sum) *sum = at::empty(x.sizes(), x.options());
  const float* in = x.const_data_ptr<float>();
  const float* rest = residual ? residual->const_data_ptr<float>() : nullptr;
  const float* w = weight.const_data_ptr<float>();
  float* sum_data = sum ? sum->data_ptr<float>() : nullptr;
  float* out_data = out.data_ptr<float>();
  const auto& kernels = svgrl::kernels();
  at::parallel_for(0, rows, rows_per_thread(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      kernels.rms_norm(in + i * width, rest ? rest + i * width : nullptr, w, eps, width,
                       sum_data ? sum_data + i * width : nullptr, out_data + i * width);
  });
}

}  // namespace

extern "C" int svgrl_rms_norm(TensorPtr x, TensorPtr weight, float eps, TensorPtr* out) {
  return svgrl::guarded([&] {
    at::Tensor normed;
    normalise(*x, nullptr, *weight, eps, nullptr, normed);
    out[0] = new at::Tensor(std::move(normed));
  });
}

// out: the norm, then the sum x + residual.
extern "C" int svgrl_add_rms_norm(TensorPtr x, TensorPtr residual, TensorPtr weight, float eps,
                                  TensorPtr* out) {
  return svgrl::guarded([&] {
    at::Tensor normed, sum;
    normalise(*x, residual, *weight, eps, &sum, normed);
    out[0] = new at::Tensor(std::move(normed));
    out[1] = new at::Tensor(std::move(sum));
  });
}

extern "C" int svgrl_silu_mul(TensorPtr gate_up_, TensorPtr* out) {
  return svgrl::guarded([&] {
    const at::Tensor& gate_up = *gate_up_;
    check_float(gate_up, "gate_up");
    TORCH_CHECK(gate_up.dim() == 2 && gate_up.size(1) % 2 == 0,
                "gate_up must have shape [n, 2 * I], got ", gate_up.sizes());
    const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
    auto result = at::empty({rows, width}, gate_up.options());
    const float* in = gate_up.const_data_ptr<float>();
    float* out_data = result.data_ptr<float>();
    const auto& kernels = svgrl::kernels();
    at::parallel_for(0, rows, rows_per_thread(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        kernels.silu_mul(in + 2 * i * width, in + (2 * i + 1) * width, out_data + i * width, width);
    });
    out[0] = new at::Tensor(std::move(result));
  });
}

// inputs: qkv, q weight or null, k weight or null, cos, sin, k cache, v cache, places.
extern "C" int svgrl_fused_qkv_post(const TensorPtr* inputs, float eps, TensorPtr* out) {
  return svgrl::guarded([&] {
    const at::Tensor &qkv = *inputs[0], &cos = *inputs[3], &sin = *inputs[4];
    const at::Tensor &k_cache = *inputs[5], &v_cache = *inputs[6];
    const at::Tensor& places = *inputs[7];
    check_float(qkv, "qkv");
    check_float(k_cache, "k_cache");
    TORCH_CHECK(qkv.dim() == 2, "qkv must have 2 dimensions, got ", qkv.dim());
    TORCH_CHECK(k_cache.dim() == 3, "k_cache must have 3 dimensions, got ", k_cache.dim());
    check_shape(v_cache, "v_cache", k_cache.sizes());
    const int64_t rows = qkv.size(0), width = qkv.size(1);
    const int64_t heads = k_cache.size(0), capacity = k_cache.size(1), dim = k_cache.size(2);
    const int64_t q_heads = dim > 0 ? width / dim - 2 * heads : 0;
    TORCH_CHECK(dim > 0 && dim % 2 == 0 && q_heads > 0 && width == (q_heads + 2 * heads) * dim,
                "qkv of shape ", qkv.sizes(), " does not split into heads of a cache of shape ",
                k_cache.sizes());
    check_shape(cos, "cos", {rows, dim});
    check_shape(sin, "sin", {rows, dim});
    for (int i = 1; i <= 2; ++i)
      if (inputs[i]) check_shape(*inputs[i], "a head norm's weight", {dim});
    check_index(places, "places", rows, capacity);

    auto q = at::empty({rows, q_heads, dim}, qkv.options());
    svgrl::QkvTask shared{};
    shared.q_weight = inputs[1] ? inputs[1]->const_data_ptr<float>() : nullptr;
    shared.k_weight = inputs[2] ? inputs[2]->const_data_ptr<float>() : nullptr;
    shared.q_heads = q_heads;
    shared.kv_heads = heads;
    shared.dim = dim;
    shared.head_stride = capacity * dim;
    shared.eps = eps;
    const int64_t* places_data = places.const_data_ptr<int64_t>();
    const float *in = qkv.const_data_ptr<float>(), *cos_data = cos.const_data_ptr<float>(),
                *sin_data = sin.const_data_ptr<float>();
    float *q_data = q.data_ptr<float>(), *k_data = k_cache.data_ptr<float>(),
          *v_data = v_cache.data_ptr<float>();
    const auto& kernels = svgrl::kernels();
    at::parallel_for(0, rows, rows_per_thread(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t place = places_data[i] * dim;
        svgrl::QkvTask task = shared;
        task.qkv = in + i * width;
        task.cos = cos_data + i * dim;
        task.sin = sin_data + i * dim;
        task.q_out = q_data + i * q_heads * dim;
        task.k_out = k_data + place;
        task.v_out = v_data + place;
        kernels.qkv_row(task);
      }
    });
    out[0] = new at::Tensor(std::move(q));
  });
}
