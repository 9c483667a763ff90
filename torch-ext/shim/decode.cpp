// The attention of one new token per row over its slot of the cache.
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

// Rows differ in length: each part gets an equal share of keys, not of rows.
struct Shares {
  std::vector<int64_t> before;  // keys in the items before each item
  Shares(const int64_t* lengths, int64_t rows, int64_t heads) {
    before.reserve(static_cast<size_t>(rows * heads) + 1);
    int64_t keys = 0;
    before.push_back(0);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t h = 0; h < heads; ++h) before.push_back(keys += lengths[i] + 8);
  }
  int64_t total() const { return before.back(); }
  int64_t first_item(int64_t part, int64_t parts) const {
    auto at = std::lower_bound(before.begin(), before.end(), total() * part / parts);
    return at - before.begin();
  }
};

}  // namespace

extern "C" int svgrl_decode_attention(TensorPtr q_, TensorPtr k_, TensorPtr v_, TensorPtr slots_,
                                      TensorPtr lengths_, TensorPtr* out_) {
  return svgrl::guarded([&] {
    const at::Tensor &q = *q_, &k = *k_, &v = *v_;
    check_float(q, "q", 3);
    check_float(k, "k_cache", 4);
    check_float(v, "v_cache", 4);
    TORCH_CHECK(k.sizes() == v.sizes(), "k_cache is ", k.sizes(), " but v_cache ", v.sizes());
    const int64_t rows = q.size(0), q_heads = q.size(1), dim = q.size(2);
    const int64_t slots = k.size(0), heads = k.size(1), capacity = k.size(2);
    TORCH_CHECK(k.size(3) == dim, "q has head size ", dim, " but the cache ", k.size(3));
    TORCH_CHECK(heads > 0 && q_heads % heads == 0, q_heads, " query heads over ", heads,
                " key-value heads");
    check_index(*slots_, "slots", rows);
    check_index(*lengths_, "lengths", rows);
    const int64_t* slot = slots_->const_data_ptr<int64_t>();
    const int64_t* length = lengths_->const_data_ptr<int64_t>();
    int64_t longest = 0;
    for (int64_t i = 0; i < rows; ++i) {
      TORCH_CHECK(slot[i] >= 0 && slot[i] < slots, "slot ", slot[i], " of ", slots);
      TORCH_CHECK(length[i] >= 1 && length[i] <= capacity, "length ", length[i],
                  " in slots that hold ", capacity);
      longest = std::max(longest, length[i]);
    }

    auto out = at::empty(q.sizes(), q.options());
    const float* q_data = q.const_data_ptr<float>();
    const float* k_data = k.const_data_ptr<float>();
    const float* v_data = v.const_data_ptr<float>();
    float* out_data = out.data_ptr<float>();
    const int64_t group = q_heads / heads;
    const auto& kernels = svgrl::kernels();
    const Shares shares(length, rows, heads);
    // Below about 20 microseconds of work a second thread costs more than it saves.
    const bool small = shares.total() * group * dim < 200'000;
    const int64_t parts = small ? 1 : at::get_num_threads();

    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(static_cast<size_t>(2 * ((longest + 15) / 16 * 16)));
      const int64_t last = shares.first_item(end, parts);
      for (int64_t item = shares.first_item(begin, parts); item < last; ++item) {
        const int64_t row = item / heads, head = item % heads;
        const int64_t place = (slot[row] * heads + head) * capacity * dim;
        svgrl::AttendTask task;
        task.q = q_data + (row * q_heads + head * group) * dim;
        task.k = k_data + place;
        task.v = v_data + place;
        task.out = out_data + (row * q_heads + head * group) * dim;
        task.scratch = scratch.data();
        task.group = group;
        task.dim = dim;
        task.length = length[row];
        task.scale = 1.0f / std::sqrt(static_cast<float>(dim));
        kernels.attend(task);
      }
    });
    *out_ = new at::Tensor(std::move(out));
  });
}
