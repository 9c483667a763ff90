// The attention of one new token per row over the ranges of its prompt and of its own tokens.
#include "kernels.h"
#include "shim.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <cmath>

namespace {

void check_float(const at::Tensor& t, const char* name, int64_t dims) {
  TORCH_CHECK(t.device().is_cpu() && t.scalar_type() == at::kFloat && t.is_contiguous(), name,
              " must be a contiguous float32 tensor on the CPU");
  TORCH_CHECK(t.dim() == dims, name, " must have ", dims, " dimensions, got ", t.dim());
}

void check_index(const at::Tensor& t, const char* name, int64_t rows) {
  TORCH_CHECK(t.device().is_cpu() && t.scalar_type() == at::kLong && t.is_contiguous() &&
                  t.dim() == 1 && t.size(0) == rows,
              name, " must be a contiguous int64 tensor of shape [", rows, "] on the CPU, got ",
              t.sizes());
}

// One cache and each row's part of it.
struct Rows {
  const float *k, *v;
  const int64_t *starts, *lengths;
  int64_t heads, capacity, dim;

  // parts: keys, values [Hkv, C, D], starts [n], lengths [n].
  Rows(const TensorPtr* parts, const char* name, int64_t rows, int64_t shortest) {
    const at::Tensor &keys = *parts[0], &values = *parts[1];
    check_float(keys, name, 3);
    check_float(values, name, 3);
    TORCH_CHECK(keys.sizes() == values.sizes(), name, ": keys are ", keys.sizes(), " but values ",
                values.sizes());
    check_index(*parts[2], "starts", rows);
    check_index(*parts[3], "lengths", rows);
    k = keys.const_data_ptr<float>();
    v = values.const_data_ptr<float>();
    starts = parts[2]->const_data_ptr<int64_t>();
    lengths = parts[3]->const_data_ptr<int64_t>();
    heads = keys.size(0);
    capacity = keys.size(1);
    dim = keys.size(2);
    for (int64_t i = 0; i < rows; ++i)
      TORCH_CHECK(starts[i] >= 0 && lengths[i] >= shortest && lengths[i] <= capacity - starts[i], name,
                  ": length ", lengths[i], " from ", starts[i], " in a cache that holds ", capacity);
  }

  svgrl::Span span(int64_t row, int64_t head) const {
    const int64_t place = (head * capacity + starts[row]) * dim;
    return {k + place, v + place, lengths[row]};
  }
};

// Rows differ in length: each part gets an equal share of keys, not of rows.
struct Shares {
  std::vector<int64_t> before;  // keys in the items before each item
  Shares(const Rows& prompt, const Rows& own, int64_t rows) {
    before.reserve(static_cast<size_t>(rows * own.heads) + 1);
    int64_t keys = 0;
    before.push_back(0);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t h = 0; h < own.heads; ++h)
        before.push_back(keys += prompt.lengths[i] + own.lengths[i] + 8);
  }
  int64_t total() const { return before.back(); }
  int64_t first_item(int64_t part, int64_t parts) const {
    auto at = std::lower_bound(before.begin(), before.end(), total() * part / parts);
    return at - before.begin();
  }
};

}  // namespace

// inputs: q, then keys, values, starts and lengths of the prompts, then those of
// what was generated.
extern "C" int svgrl_decode_attention(const TensorPtr* inputs, TensorPtr* out_) {
  return svgrl::guarded([&] {
    const at::Tensor& q = *inputs[0];
    check_float(q, "q", 3);
    const int64_t rows = q.size(0), q_heads = q.size(1), dim = q.size(2);
    const Rows prompt(inputs + 1, "prompts", rows, 0), own(inputs + 5, "cache", rows, 1);
    for (const Rows* part : {&prompt, &own})
      TORCH_CHECK(part->dim == dim && part->heads == own.heads, "q has head size ", dim,
                  " but the caches ", prompt.dim, " and ", own.dim, ", with ", prompt.heads, " and ",
                  own.heads, " heads");
    const int64_t heads = own.heads;
    TORCH_CHECK(heads > 0 && q_heads % heads == 0, q_heads, " query heads over ", heads,
                " key-value heads");
    int64_t longest = 0;
    for (int64_t i = 0; i < rows; ++i)
      longest = std::max(longest, prompt.lengths[i] + own.lengths[i]);

    auto out = at::empty(q.sizes(), q.options());
    const float* q_data = q.const_data_ptr<float>();
    float* out_data = out.data_ptr<float>();
    const int64_t group = q_heads / heads;
    const auto& kernels = svgrl::kernels();
    const Shares shares(prompt, own, rows);
    // Below about 20 microseconds of work a second thread costs more than it saves.
    const bool small = shares.total() * group * dim < 200'000;
    const int64_t parts = small ? 1 : at::get_num_threads();

    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(static_cast<size_t>(2 * ((longest + 15) / 16 * 16)));
      const int64_t last = shares.first_item(end, parts);
      for (int64_t item = shares.first_item(begin, parts); item < last; ++item) {
        const int64_t row = item / heads, head = item % heads;
        const int64_t first = (row * q_heads + head * group) * dim;
        svgrl::AttendTask task;
        task.q = q_data + first;
        task.spans[0] = prompt.span(row, head);
        task.spans[1] = own.span(row, head);
        task.out = out_data + first;
        task.scratch = scratch.data();
        task.group = group;
        task.dim = dim;
        task.scale = 1.0f / std::sqrt(static_cast<float>(dim));
        kernels.attend(task);
      }
    });
    *out_ = new at::Tensor(std::move(out));
  });
}
