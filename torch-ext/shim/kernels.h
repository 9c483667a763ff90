// The CPU decode kernels' table. `kernels.cpp` is compiled once per instruction
// set into one table each; `dispatch.cpp` picks the widest the machine has.
//
// This header and `kernels.cpp` include nothing that could emit shared inline
// code: such a copy, compiled for a newer machine, might be linked everywhere.
#pragma once

#include <cstdint>

namespace svgrl {

// Keys and values of consecutive tokens, [length, dim] each.
struct Span {
  const float *k, *v;
  int64_t length;
};

// One row and one key-value head of the attention of one new token.
struct AttendTask {
  const float* q;    // [group, dim], the query heads of this key-value head
  Span spans[2];     // the prompt, then what was generated
  float* out;        // [group, dim]
  float* scratch;    // room for 2 * (both lengths rounded up to 16)
  int64_t group, dim;
  float scale;
};

// One row: q, k and v heads of one new token on their way to attention.
struct QkvTask {
  const float* qkv;           // [(q_heads + 2 kv_heads) * dim]
  const float *q_weight, *k_weight;  // [dim] each, or null for no norm
  const float *cos, *sin;     // [dim]
  float* q_out;               // [q_heads, dim]
  float *k_out, *v_out;       // first head's place in the caches
  int64_t q_heads, kv_heads, dim, head_stride;
  float eps;
};

// One row of the projection on its way to attention in learning, or its gradient on the way back.
struct HeadsTask {
  const float* qkv;                  // [(q_heads + 2 kv_heads) * dim]
  const float *q_weight, *k_weight;  // [dim] each, or null for no norm
  const float *cos, *sin;            // [dim]
  float *q, *k, *v;                  // [heads, dim]; on the way back their gradients, read alone
  float* qkv_grad;                   // the way back: like qkv
  float *q_weight_grad, *k_weight_grad;  // the way back: [dim] each, added to, or null
  int64_t q_heads, kv_heads, dim;
  float eps;
};

struct Kernels {
  void (*attend)(const AttendTask&);
  void (*qkv_row)(const QkvTask&);
  // out[i] = silu(gate[i]) * up[i]
  void (*silu_mul)(const float* gate, const float* up, float* out, int64_t count);
  // sum = x + residual if residual is given, else x; out = sum / rms(sum) * weight
  void (*rms_norm)(const float* x, const float* residual, const float* weight, float eps,
                   int64_t count, float* sum, float* out);
  void (*heads_row)(const HeadsTask&);
  void (*heads_row_back)(const HeadsTask&);
  // Gradients of silu(gate) * up, given that of the product.
  void (*silu_mul_back)(const float* gate, const float* up, const float* grad, int64_t count,
                        float* gate_grad, float* up_grad);
  // Gradients of a row's RMSNorm: x's written, the weight's added to.
  void (*rms_norm_back)(const float* x, const float* weight, const float* grad, float eps,
                        int64_t count, float* x_grad, float* weight_grad);
};

extern const Kernels kernels_base;
#ifdef __x86_64__
extern const Kernels kernels_v3;
extern const Kernels kernels_v4;
#endif

const Kernels& kernels();

}  // namespace svgrl
