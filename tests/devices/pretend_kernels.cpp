// Operators that have kernels on a GPU alone, computed by a CPU: flash attention over packed
// sequences, and the fused RMS norm. Each counts as one operator, as it does on a GPU. Keys and values
// are read where they lie.
#include "pretend_gpu.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/library.h>

#include <array>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

namespace {

using at::Tensor;
using pretend::on_device;
using pretend::on_host;

struct Sequence {
  int64_t q, queries, k, keys;
};

// The sequences, after the checks of the real operator; it has float16 and bfloat16 alone, which is not
// asked here, so that results can be compared in float32.
std::vector<Sequence> sequences(const Tensor& q, const Tensor& k, const std::optional<Tensor>& cum_q,
                                const std::optional<Tensor>& cum_k, const std::optional<Tensor>& used,
                                int64_t max_q, int64_t max_k) {
  TORCH_CHECK(cum_q && cum_k, "pretend_gpu: flash attention over packed sequences alone");
  TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && q.stride(-1) == 1 && k.stride(-1) == 1,
              "flash attention: [rows, heads, D] with a contiguous last dimension");
  TORCH_CHECK(q.size(2) % 8 == 0 && q.size(2) <= 256, "flash attention: head size ", q.size(2));
  TORCH_CHECK(k.size(1) > 0 && q.size(1) % k.size(1) == 0, "flash attention: heads");
  TORCH_CHECK(cum_q->scalar_type() == at::kInt && cum_k->scalar_type() == at::kInt &&
                  cum_q->is_contiguous() && cum_k->is_contiguous() && cum_q->numel() == cum_k->numel(),
              "flash attention: starts are contiguous int32");
  const int64_t count = cum_q->numel() - 1;
  TORCH_CHECK(count > 0, "flash attention: batch size must be positive");
  TORCH_CHECK(!used || (used->scalar_type() == at::kInt && used->is_contiguous() && used->numel() == count),
              "flash attention: lengths are contiguous int32, one a sequence");
  const Tensor host_q = on_host(*cum_q), host_k = on_host(*cum_k), host_used = used ? on_host(*used) : Tensor();
  const int* starts_q = host_q.const_data_ptr<int>();
  const int* starts_k = host_k.const_data_ptr<int>();
  std::vector<Sequence> all;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t keys = used ? host_used.const_data_ptr<int>()[i] : starts_k[i + 1] - starts_k[i];
    const Sequence one{starts_q[i], starts_q[i + 1] - starts_q[i], starts_k[i], keys};
    TORCH_CHECK(one.queries <= max_q && one.keys <= max_k, "flash attention: a sequence of ", one.queries, " and ",
                one.keys, " is longer than was said: ", max_q, " and ", max_k);
    TORCH_CHECK(one.q >= 0 && one.q + one.queries <= q.size(0) && one.k >= 0 && one.keys >= 0 &&
                    one.k + one.keys <= k.size(0),
                "flash attention: a sequence beyond its tensor");
    all.push_back(one);
  }
  return all;
}

Tensor wide(const Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

// [rows, heads, D] of a sequence as [query heads, rows, D].
Tensor heads_first(const Tensor& rows, int64_t start, int64_t len, int64_t shared) {
  return wide(rows.narrow(0, start, len).transpose(0, 1)).repeat_interleave(shared, 0);
}

// Scores [heads, queries, keys], minus infinity where nobody looks.
Tensor scores(const Tensor& q, const Tensor& k, double scale, bool causal) {
  Tensor all = at::matmul(q, k.transpose(1, 2)) * scale;
  if (!causal) return all;
  const Tensor hidden = at::ones({q.size(1), k.size(1)}, at::kBool).triu(k.size(1) - q.size(1) + 1);
  return all.masked_fill(hidden, -std::numeric_limits<double>::infinity());
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flash_forward(
    const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& cum_q,
    const std::optional<Tensor>& cum_k, int64_t max_q, int64_t max_k, double dropout, bool causal, bool,
    std::optional<double> scale, std::optional<int64_t>, std::optional<int64_t>, const std::optional<Tensor>& used,
    const std::optional<Tensor>&) {
  TORCH_CHECK(dropout == 0.0, "pretend_gpu: flash attention without dropout alone");
  pretend::count_operator("aten::_flash_attention_forward");
  const auto all = sequences(query, key, cum_q, cum_k, used, max_q, max_k);
  const Tensor q = on_host(query), k = on_host(key), v = on_host(value);
  const int64_t shared = q.size(1) / k.size(1);
  const double factor = scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(2))));
  Tensor out = at::zeros(q.sizes(), q.options());
  Tensor lse = at::full({q.size(1), q.size(0)}, std::numeric_limits<double>::infinity(), wide(q).options());
  for (const Sequence& one : all) {
    if (one.queries == 0 || one.keys == 0) continue;
    const Tensor all_scores =
        scores(heads_first(q, one.q, one.queries, 1), heads_first(k, one.k, one.keys, shared), factor, causal);
    const Tensor sums = all_scores.logsumexp(-1);
    const Tensor mixed =
        at::matmul((all_scores - sums.unsqueeze(-1)).exp(), heads_first(v, one.k, one.keys, shared));
    out.narrow(0, one.q, one.queries).copy_(mixed.transpose(0, 1));
    lse.narrow(1, one.q, one.queries).copy_(sums);
  }
  const auto state = query.options().dtype(c10::kUInt64);
  return {on_device(out, query), on_device(lse, query), at::empty({2}, state), at::empty({}, state),
          at::empty({0}, query.options())};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(const Tensor& grad, const Tensor& query, const Tensor& key,
                                                  const Tensor& value, const Tensor& result, const Tensor& sums,
                                                  const Tensor& cum_q, const Tensor& cum_k, int64_t max_q,
                                                  int64_t max_k, double, bool causal, const Tensor&, const Tensor&,
                                                  std::optional<double> scale, std::optional<int64_t>,
                                                  std::optional<int64_t>) {
  pretend::count_operator("aten::_flash_attention_backward");
  const auto all = sequences(query, key, cum_q, cum_k, std::nullopt, max_q, max_k);
  const Tensor q = on_host(query), k = on_host(key), v = on_host(value), lse = on_host(sums);
  const Tensor given = on_host(grad), made = on_host(result);
  const int64_t heads = k.size(1), shared = q.size(1) / heads, dim = q.size(2);
  const double factor = scale.value_or(1.0 / std::sqrt(static_cast<double>(dim)));
  Tensor dq = at::zeros(q.sizes(), q.options()), dk = at::zeros(k.sizes(), k.options()),
         dv = at::zeros(v.sizes(), v.options());
  for (const Sequence& one : all) {
    if (one.queries == 0 || one.keys == 0) continue;
    const auto queries = [&](const Tensor& x) { return heads_first(x, one.q, one.queries, 1); };
    const Tensor hq = queries(q), hk = heads_first(k, one.k, one.keys, shared),
                 hv = heads_first(v, one.k, one.keys, shared), dout = queries(given);
    const Tensor weights =
        (scores(hq, hk, factor, causal) - lse.narrow(1, one.q, one.queries).unsqueeze(-1)).exp();
    const Tensor change = weights * (at::matmul(dout, hv.transpose(1, 2)) - (dout * queries(made)).sum(-1, true));
    const auto grouped = [&](const Tensor& each) {
      return each.view({heads, shared, one.keys, dim}).sum(1).transpose(0, 1);
    };
    dq.narrow(0, one.q, one.queries).copy_((at::matmul(change, hk) * factor).transpose(0, 1));
    dk.narrow(0, one.k, one.keys).copy_(grouped(at::matmul(change.transpose(1, 2), hq) * factor));
    dv.narrow(0, one.k, one.keys).copy_(grouped(at::matmul(weights.transpose(1, 2), dout)));
  }
  return {on_device(dq, query), on_device(dk, query), on_device(dv, query)};
}

std::optional<Tensor> host_weight(const std::optional<Tensor>& weight) {
  return weight && weight->defined() ? std::optional<Tensor>(on_host(*weight)) : std::nullopt;
}

// A GPU's kernel takes rows that follow each other, and copies others first.
void count_norm(const char* name, const Tensor& input) {
  pretend::count_operator(name);
  if (!input.is_contiguous()) pretend::count_operator("aten::copy_");
}

std::tuple<Tensor, Tensor> rms_forward(const Tensor& input, at::IntArrayRef shape, const std::optional<Tensor>& weight,
                                       std::optional<double> eps) {
  count_norm("aten::_fused_rms_norm", input);
  const Tensor x = on_host(input);
  const Tensor y = at::rms_norm(x, shape, host_weight(weight), eps);
  const double least = eps.value_or(std::numeric_limits<float>::epsilon());
  const Tensor rstd = wide(x).square().mean(-1, true).add(least).rsqrt();
  return {on_device(y.contiguous(), input), on_device(rstd, input)};
}

std::tuple<Tensor, Tensor> rms_backward(const Tensor& grad, const Tensor& input, at::IntArrayRef, const Tensor& rstd,
                                        const std::optional<Tensor>& weight, std::array<bool, 2>) {
  count_norm("aten::_fused_rms_norm_backward", input);
  const Tensor dy = wide(on_host(grad)), r = wide(on_host(rstd));
  const Tensor normed = wide(on_host(input)) * r;
  const auto w = host_weight(weight);
  const Tensor dn = w ? dy * wide(*w) : dy;
  const Tensor dx = r * (dn - normed * (dn * normed).mean(-1, true));
  Tensor dw;
  if (w) dw = on_device((dy * normed).reshape({-1, w->numel()}).sum(0).to(w->scalar_type()), input);
  return {on_device(dx.to(input.scalar_type()), input), dw};
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_flash_attention_forward", &flash_forward);
  m.impl("_flash_attention_backward", &flash_backward);
  m.impl("_fused_rms_norm", &rms_forward);
  m.impl("_fused_rms_norm_backward", &rms_backward);
}

}  // namespace
