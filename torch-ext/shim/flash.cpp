// Flash attention over sequences of different lengths, which tch does not bind.
#include "shim.h"

#include <ATen/ops/_flash_attention_forward.h>

// inputs: q [Tq, Hq, D], k, v [Tk, Hkv, D], starts of the queries and of the keys int32 [n + 1], and
// null or how many keys each sequence has, int32 [n]. bounds: the most queries and keys of a sequence.
// out: the mixed values [Tq, Hq, D] and the log-sum-exp of the scores, float32 [Hq, Tq].
extern "C" int svgrl_flash_attention(const TensorPtr* inputs, const int64_t* bounds, int causal, TensorPtr* out) {
  return svgrl::guarded([&] {
    std::optional<at::Tensor> used;
    if (inputs[5] != nullptr) used = *inputs[5];
    auto [mixed, lse, state, unused, mask] = at::_flash_attention_forward(
        *inputs[0], *inputs[1], *inputs[2], *inputs[3], *inputs[4], bounds[0], bounds[1],
        /*dropout_p=*/0.0, causal != 0, /*return_debug_mask=*/false, /*scale=*/std::nullopt,
        /*window_size_left=*/std::nullopt, /*window_size_right=*/std::nullopt, used,
        /*alibi_slopes=*/std::nullopt);
    out[0] = new at::Tensor(std::move(mixed));
    out[1] = new at::Tensor(std::move(lse));
  });
}
