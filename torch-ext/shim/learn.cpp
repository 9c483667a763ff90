// The steps of a decoder layer between its matrix products in learning: one pass there and one back.
//
// The weights' gradients are summed over stretches of rows of a fixed length, so that they do not
// depend on the number of threads.
#include "kernels.h"
#include "shim.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

namespace {

// Rows of one stretch.
constexpr int64_t STRETCH = 64;
// The widest head of the kernels.
constexpr int64_t WIDEST_HEAD = 1024;

int64_t stretches(int64_t rows) { return (rows + STRETCH - 1) / STRETCH; }

// `work(stretch, first row, end)` of every stretch.
template <class Work>
void by_stretch(int64_t rows, Work&& work) {
  at::parallel_for(0, stretches(rows), 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) work(s, s * STRETCH, std::min(rows, (s + 1) * STRETCH));
  });
}

void check_float(const at::Tensor& t, const char* name) {
  TORCH_CHECK(t.device().is_cpu() && t.scalar_type() == at::kFloat && t.is_contiguous(), name,
              " must be a contiguous float32 tensor on the CPU");
}

const float* data(const at::Tensor& t) { return t.const_data_ptr<float>(); }
float* room(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& weight,
                          double eps) {
    const int64_t width = weight.size(0), rows = x.numel() / width;
    auto out = at::empty(x.sizes(), x.options());
    const float *in = data(x), *w = data(weight);
    float* to = room(out);
    const auto& kernels = svgrl::kernels();
    by_stretch(rows, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        kernels.rms_norm(in + i * width, nullptr, w, static_cast<float>(eps), width, nullptr,
                         to + i * width);
    });
    context->save_for_backward({x, weight});
    context->saved_data["eps"] = eps;
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const at::Tensor grad = grads[0].contiguous();
    const auto eps = static_cast<float>(context->saved_data["eps"].toDouble());
    const int64_t width = weight.size(0), rows = x.numel() / width;
    auto x_grad = at::empty(x.sizes(), x.options());
    auto sums = at::zeros({stretches(rows), width}, x.options());
    const float *in = data(x), *w = data(weight), *from = data(grad);
    float *to = room(x_grad), *sum = room(sums);
    const auto& kernels = svgrl::kernels();
    by_stretch(rows, [&](int64_t stretch, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        kernels.rms_norm_back(in + i * width, w, from + i * width, eps, width, to + i * width,
                              sum + stretch * width);
    });
    return {x_grad, sums.sum(0), Variable()};
  }
};

struct SiluMul : torch::autograd::Function<SiluMul> {
  static Variable forward(AutogradContext* context, const Variable& gate_up) {
    const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
    auto out = at::empty({rows, width}, gate_up.options());
    const float* in = data(gate_up);
    float* to = room(out);
    const auto& kernels = svgrl::kernels();
    by_stretch(rows, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        kernels.silu_mul(in + 2 * i * width, in + (2 * i + 1) * width, to + i * width, width);
    });
    context->save_for_backward({gate_up});
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const at::Tensor gate_up = context->get_saved_variables()[0];
    const at::Tensor grad = grads[0].contiguous();
    const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
    auto out = at::empty(gate_up.sizes(), gate_up.options());
    const float *in = data(gate_up), *from = data(grad);
    float* to = room(out);
    const auto& kernels = svgrl::kernels();
    by_stretch(rows, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        kernels.silu_mul_back(in + 2 * i * width, in + (2 * i + 1) * width, from + i * width, width,
                              to + 2 * i * width, to + (2 * i + 1) * width);
    });
    return {out};
  }
};

// The heads of rows: what does not change from row to row, with pointers to the first row.
struct Heads {
  svgrl::HeadsTask first{};
  int64_t rows = 0;

  Heads(const variable_list& from, int64_t q_heads, int64_t kv_heads, double eps) {
    const at::Tensor &qkv = from[0], &cos = from[1], &sin = from[2];
    rows = qkv.size(0);
    first.qkv = data(qkv);
    first.cos = data(cos);
    first.sin = data(sin);
    if (from.size() > 3) {
      first.q_weight = data(from[3]);
      first.k_weight = data(from[4]);
    }
    first.q_heads = q_heads;
    first.kv_heads = kv_heads;
    first.dim = cos.size(1);
    first.eps = static_cast<float>(eps);
  }

  int64_t width() const { return (first.q_heads + 2 * first.kv_heads) * first.dim; }

  svgrl::HeadsTask row(int64_t i) const {
    svgrl::HeadsTask task = first;
    task.qkv += i * width();
    task.cos += i * task.dim;
    task.sin += i * task.dim;
    task.q += i * task.q_heads * task.dim;
    task.k += i * task.kv_heads * task.dim;
    task.v += i * task.kv_heads * task.dim;
    return task;
  }
};

struct TurnHeads : torch::autograd::Function<TurnHeads> {
  static variable_list forward(AutogradContext* context, const Variable& qkv, const Variable& cos,
                               const Variable& sin, const std::optional<Variable>& q_weight,
                               const std::optional<Variable>& k_weight, int64_t q_heads,
                               int64_t kv_heads, double eps) {
    variable_list kept{qkv, cos, sin};
    if (q_weight) kept.insert(kept.end(), {*q_weight, *k_weight});
    Heads heads(kept, q_heads, kv_heads, eps);
    const int64_t dim = heads.first.dim;
    variable_list out;
    for (int64_t count : {q_heads, kv_heads, kv_heads})
      out.push_back(at::empty({heads.rows, count, dim}, qkv.options()));
    heads.first.q = room(out[0]);
    heads.first.k = room(out[1]);
    heads.first.v = room(out[2]);
    const auto& kernels = svgrl::kernels();
    by_stretch(heads.rows, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) kernels.heads_row(heads.row(i));
    });
    context->save_for_backward(kept);
    context->saved_data["q_heads"] = q_heads;
    context->saved_data["kv_heads"] = kv_heads;
    context->saved_data["eps"] = eps;
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto kept = context->get_saved_variables();
    Heads heads(kept, context->saved_data["q_heads"].toInt(), context->saved_data["kv_heads"].toInt(),
                context->saved_data["eps"].toDouble());
    const int64_t dim = heads.first.dim;
    const bool norms = kept.size() > 3;
    const int64_t counts[] = {heads.first.q_heads, heads.first.kv_heads, heads.first.kv_heads};
    variable_list from;
    for (int i = 0; i < 3; ++i)
      from.push_back(grads[i].defined() ? grads[i].contiguous()
                                        : at::zeros({heads.rows, counts[i], dim}, kept[0].options()));
    auto out = at::empty(kept[0].sizes(), kept[0].options());
    auto sums = at::zeros({stretches(heads.rows), 2, dim}, kept[0].options());
    // They are read alone.
    heads.first.q = const_cast<float*>(data(from[0]));
    heads.first.k = const_cast<float*>(data(from[1]));
    heads.first.v = const_cast<float*>(data(from[2]));
    float *to = room(out), *sum = room(sums);
    const auto& kernels = svgrl::kernels();
    by_stretch(heads.rows, [&](int64_t stretch, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        svgrl::HeadsTask task = heads.row(i);
        task.qkv_grad = to + i * heads.width();
        task.q_weight_grad = sum + stretch * 2 * dim;
        task.k_weight_grad = task.q_weight_grad + dim;
        kernels.heads_row_back(task);
      }
    });
    const at::Tensor weights = norms ? sums.sum(0) : at::Tensor();
    const auto weight = [&](int64_t i) { return norms ? weights.select(0, i) : Variable(); };
    return {out, Variable(), Variable(), weight(0), weight(1), Variable(), Variable(), Variable()};
  }
};

}  // namespace

extern "C" int svgrl_learn_rms_norm(TensorPtr x, TensorPtr weight, double eps, TensorPtr* out) {
  return svgrl::guarded([&] {
    check_float(*x, "x");
    check_float(*weight, "weight");
    TORCH_CHECK(weight->dim() == 1 && x->dim() > 0 && x->size(-1) == weight->size(0),
                "a weight of shape ", weight->sizes(), " does not fit x of shape ", x->sizes());
    out[0] = new at::Tensor(RmsNorm::apply(*x, *weight, eps));
  });
}

extern "C" int svgrl_learn_silu_mul(TensorPtr gate_up, TensorPtr* out) {
  return svgrl::guarded([&] {
    check_float(*gate_up, "gate_up");
    TORCH_CHECK(gate_up->dim() == 2 && gate_up->size(1) % 2 == 0,
                "gate_up must have shape [n, 2 * I], got ", gate_up->sizes());
    out[0] = new at::Tensor(SiluMul::apply(*gate_up));
  });
}

// inputs: qkv, cos, sin, q weight or null, k weight or null; out: q, k, v.
extern "C" int svgrl_learn_turn_heads(const TensorPtr* inputs, int64_t q_heads, int64_t kv_heads,
                                      double eps, TensorPtr* out) {
  return svgrl::guarded([&] {
    const at::Tensor &qkv = *inputs[0], &cos = *inputs[1], &sin = *inputs[2];
    check_float(qkv, "qkv");
    check_float(cos, "cos");
    check_float(sin, "sin");
    TORCH_CHECK(cos.dim() == 2 && cos.sizes() == sin.sizes(), "cos has shape ", cos.sizes(), ", sin ",
                sin.sizes());
    const int64_t dim = cos.size(1);
    TORCH_CHECK(dim % 2 == 0 && dim <= WIDEST_HEAD, "a head of ", dim, " numbers");
    TORCH_CHECK(qkv.dim() == 2 && qkv.size(0) == cos.size(0) &&
                    qkv.size(1) == (q_heads + 2 * kv_heads) * dim,
                "qkv of shape ", qkv.sizes(), " does not split into ", q_heads, " and twice ", kv_heads,
                " heads of ", dim);
    std::optional<at::Tensor> weights[2];
    for (int i = 0; i < 2; ++i) {
      if (!inputs[3 + i]) continue;
      check_float(*inputs[3 + i], "a head norm's weight");
      TORCH_CHECK(inputs[3 + i]->sizes() == at::IntArrayRef({dim}), "a head norm's weight of shape ",
                  inputs[3 + i]->sizes());
      weights[i] = *inputs[3 + i];
    }
    TORCH_CHECK(weights[0].has_value() == weights[1].has_value(), "one head norm of two");
    auto made = TurnHeads::apply(qkv, cos, sin, weights[0], weights[1], q_heads, kv_heads, eps);
    for (int i = 0; i < 3; ++i) out[i] = new at::Tensor(std::move(made[i]));
  });
}
