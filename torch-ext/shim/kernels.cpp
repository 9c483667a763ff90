// The decode kernels for one instruction set (ISA names it).
#include "kernels.h"

#include "simd.h"

#ifndef ISA
#error "ISA names the table, for instance kernels_v3"
#endif

namespace {

using svgrl::AttendTask;
using svgrl::HeadsTask;
using svgrl::QkvTask;
using svgrl::Span;

// Dot products of H query heads with every key of a span, times scale, into
// scores[h][padded]; DIM is the head size, 0 when it is known only at run time.
template <int H, int DIM>
INLINE void scores_of(const AttendTask& t, const Span& span, const float* q, float* scores,
                      int64_t padded) {
  const int64_t dim = DIM > 0 ? DIM : t.dim;
  const int64_t whole = dim / LANES * LANES;
  for (int64_t l = 0; l + 4 <= span.length; l += 4) {
    Vec acc[H][4] = {};
    for (int64_t d = 0; d < whole; d += LANES) {
      for (int j = 0; j < 4; ++j) {
        Vec key = load(span.k + (l + j) * dim + d);
        for (int h = 0; h < H; ++h) acc[h][j] += load(q + h * dim + d) * key;
      }
    }
    for (int h = 0; h < H; ++h) {
      Vec4 s = sums(acc[h][0], acc[h][1], acc[h][2], acc[h][3]);
      for (int j = 0; j < 4; ++j) {
        float rest = s[j];
        for (int64_t d = whole; d < dim; ++d) rest += q[h * dim + d] * span.k[(l + j) * dim + d];
        scores[h * padded + l + j] = rest * t.scale;
      }
    }
  }
  for (int64_t l = span.length / 4 * 4; l < span.length; ++l) {
    for (int h = 0; h < H; ++h) {
      Vec acc = {};
      for (int64_t d = 0; d < whole; d += LANES)
        acc += load(q + h * dim + d) * load(span.k + l * dim + d);
      float s = sum(acc);
      for (int64_t d = whole; d < dim; ++d) s += q[h * dim + d] * span.k[l * dim + d];
      scores[h * padded + l] = s * t.scale;
    }
  }
}

// Softmax numerators in place; returns one over their sum.
INLINE float softmax(float* scores, int64_t length, int64_t padded) {
  for (int64_t l = length; l < padded; ++l) scores[l] = -1e30f;
  Vec top = broadcast(-1e30f);
  for (int64_t l = 0; l < padded; l += LANES) top = max(load(scores + l), top);
  const float m = largest(top);
  Vec total = {};
  for (int64_t l = 0; l < padded; l += LANES) {
    Vec e = exp(load(scores + l) - m);
    store(scores + l, e);
    total += e;
  }
  return 1.0f / sum(total);
}

// out[h] = sum over l of weights[h][l] * v[l], for whole vectors of the head.
template <int H, int DIM>
INLINE void mix_values(const AttendTask& t, const float* weights, int64_t padded,
                       const float* inverse, float* out) {
  constexpr int VECS = DIM / LANES;
  constexpr int STEP = H * VECS <= 4 ? 2 : 1;  // two chains hide the latency of few sums
  Vec acc[STEP][H][VECS] = {};
  for (const Span& span : t.spans) {
    const int64_t even = span.length / STEP * STEP;
    for (int64_t l = 0; l < even; l += STEP) {
      for (int s = 0; s < STEP; ++s)
        for (int c = 0; c < VECS; ++c) {
          Vec value = load(span.v + (l + s) * DIM + c * LANES);
          for (int h = 0; h < H; ++h) acc[s][h][c] += value * weights[h * padded + l + s];
        }
    }
    for (int64_t l = even; l < span.length; ++l)
      for (int h = 0; h < H; ++h)
        for (int c = 0; c < VECS; ++c)
          acc[0][h][c] += load(span.v + l * DIM + c * LANES) * weights[h * padded + l];
    weights += span.length;
  }
  for (int h = 0; h < H; ++h)
    for (int c = 0; c < VECS; ++c) {
      Vec whole = acc[0][h][c];
      if (STEP == 2) whole += acc[STEP - 1][h][c];
      store(out + h * DIM + c * LANES, whole * inverse[h]);
    }
}

// The same for a head size known only at run time.
template <int H>
INLINE void mix_values_any(const AttendTask& t, const float* weights, int64_t padded,
                           const float* inverse, float* out) {
  for (int h = 0; h < H; ++h) {
    float* o = out + h * t.dim;
    for (int64_t d = 0; d < t.dim; ++d) o[d] = 0.0f;
    const float* own = weights + h * padded;
    for (const Span& span : t.spans) {
      for (int64_t l = 0; l < span.length; ++l) {
        const float w = own[l] * inverse[h];
        for (int64_t d = 0; d < t.dim; ++d) o[d] += w * span.v[l * t.dim + d];
      }
      own += span.length;
    }
  }
}

template <int H, int DIM>
INLINE void attend_heads(const AttendTask& t, int64_t first) {
  const int64_t length = t.spans[0].length + t.spans[1].length;
  const int64_t padded = (length + 15) / 16 * 16;
  const float* q = t.q + first * t.dim;
  scores_of<H, DIM>(t, t.spans[0], q, t.scratch, padded);
  scores_of<H, DIM>(t, t.spans[1], q, t.scratch + t.spans[0].length, padded);
  float inverse[H];
  for (int h = 0; h < H; ++h) inverse[h] = softmax(t.scratch + h * padded, length, padded);
  float* out = t.out + first * t.dim;
  if constexpr (DIM > 0)
    mix_values<H, DIM>(t, t.scratch, padded, inverse, out);
  else
    mix_values_any<H>(t, t.scratch, padded, inverse, out);
}

template <int DIM>
void attend_dim(const AttendTask& t) {
  int64_t head = 0;
  for (; head + 2 <= t.group; head += 2) attend_heads<2, DIM>(t, head);
  if (head < t.group) attend_heads<1, DIM>(t, head);
}

void attend(const AttendTask& t) {
  switch (t.dim) {
    case 32: return attend_dim<32>(t);
    case 64: return attend_dim<64>(t);
    case 128: return attend_dim<128>(t);
    default: return attend_dim<0>(t);
  }
}

INLINE float inverse_rms(const float* x, int64_t count, float eps) {
  const int64_t whole = count / LANES * LANES;
  Vec acc = {};
  for (int64_t i = 0; i < whole; i += LANES) acc += load(x + i) * load(x + i);
  float total = sum(acc);
  for (int64_t i = whole; i < count; ++i) total += x[i] * x[i];
  return 1.0f / __builtin_sqrtf(total / static_cast<float>(count) + eps);
}

// RMSNorm of one head when it has a weight, then the rotation that pairs
// element i with element i + dim / 2.
INLINE void place_head(const QkvTask& t, const float* __restrict x, const float* __restrict weight,
                       float* __restrict out) {
  const int64_t half = t.dim / 2;
  const float *__restrict cos = t.cos, *__restrict sin = t.sin;
  const float inverse = weight ? inverse_rms(x, t.dim, t.eps) : 1.0f;
  for (int64_t i = 0; i < half; ++i) {
    float a = x[i], b = x[i + half];
    if (weight) {
      a = a * inverse * weight[i];
      b = b * inverse * weight[i + half];
    }
    out[i] = a * cos[i] - b * sin[i];
    out[i + half] = b * cos[i + half] + a * sin[i + half];
  }
}

void qkv_row(const QkvTask& t) {
  const float* x = t.qkv;
  for (int64_t h = 0; h < t.q_heads; ++h, x += t.dim) place_head(t, x, t.q_weight, t.q_out + h * t.dim);
  for (int64_t h = 0; h < t.kv_heads; ++h, x += t.dim) place_head(t, x, t.k_weight, t.k_out + h * t.head_stride);
  for (int64_t h = 0; h < t.kv_heads; ++h, x += t.dim)
    __builtin_memcpy(t.v_out + h * t.head_stride, x, static_cast<unsigned long>(t.dim) * sizeof(float));
}

void silu_mul(const float* gate, const float* up, float* out, int64_t count) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    Vec g = load(gate + i);
    store(out + i, g / (1.0f + exp(-g)) * load(up + i));
  }
  for (; i < count; ++i) {
    Vec e = exp(broadcast(-gate[i]));
    out[i] = gate[i] / (1.0f + e[0]) * up[i];
  }
}

void rms_norm(const float* __restrict x, const float* __restrict residual,
              const float* __restrict weight, float eps, int64_t count,
              float* __restrict sum, float* __restrict out) {
  if (residual) {
    for (int64_t i = 0; i < count; ++i) sum[i] = x[i] + residual[i];
    x = sum;
  }
  const float inverse = inverse_rms(x, count, eps);
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] * inverse * weight[i];
}

void heads_row(const HeadsTask& t) {
  QkvTask row{};
  row.qkv = t.qkv;
  row.q_weight = t.q_weight;
  row.k_weight = t.k_weight;
  row.cos = t.cos;
  row.sin = t.sin;
  row.q_out = t.q;
  row.k_out = t.k;
  row.v_out = t.v;
  row.q_heads = t.q_heads;
  row.kv_heads = t.kv_heads;
  row.dim = row.head_stride = t.dim;
  row.eps = t.eps;
  qkv_row(row);
}

// With y = x * r * w and r = 1 / rms(x): x's gradient is r * (w * g - x * mean(w * g * x) * r^2).
void rms_norm_back(const float* __restrict x, const float* __restrict weight,
                   const float* __restrict grad, float eps, int64_t count,
                   float* __restrict x_grad, float* __restrict weight_grad) {
  const float inverse = inverse_rms(x, count, eps);
  const int64_t whole = count / LANES * LANES;
  Vec acc = {};
  for (int64_t i = 0; i < whole; i += LANES)
    acc += load(grad + i) * load(weight + i) * load(x + i);
  float along = sum(acc);
  for (int64_t i = whole; i < count; ++i) along += grad[i] * weight[i] * x[i];
  const float back = along / static_cast<float>(count) * inverse * inverse * inverse;
  for (int64_t i = 0; i < count; ++i) {
    x_grad[i] = grad[i] * weight[i] * inverse - x[i] * back;
    weight_grad[i] += grad[i] * x[i] * inverse;
  }
}

// The way back of place_head: undoes the rotation of the gradient, then the norm. `room` holds a head.
INLINE void place_head_back(const HeadsTask& t, const float* __restrict x,
                            const float* __restrict weight, const float* __restrict grad,
                            float* __restrict x_grad, float* __restrict weight_grad,
                            float* __restrict room) {
  const int64_t half = t.dim / 2;
  const float *__restrict cos = t.cos, *__restrict sin = t.sin;
  float* turned = weight ? room : x_grad;
  for (int64_t i = 0; i < half; ++i) {
    const float a = grad[i], b = grad[i + half];
    turned[i] = a * cos[i] + b * sin[i + half];
    turned[i + half] = b * cos[i + half] - a * sin[i];
  }
  if (weight) rms_norm_back(x, weight, room, t.eps, t.dim, x_grad, weight_grad);
}

void heads_row_back(const HeadsTask& t) {
  constexpr int64_t ROOM = 1024;  // the caller checks that a head is no wider
  float room[ROOM];
  const float* x = t.qkv;
  float* out = t.qkv_grad;
  for (int64_t h = 0; h < t.q_heads; ++h, x += t.dim, out += t.dim)
    place_head_back(t, x, t.q_weight, t.q + h * t.dim, out, t.q_weight_grad, room);
  for (int64_t h = 0; h < t.kv_heads; ++h, x += t.dim, out += t.dim)
    place_head_back(t, x, t.k_weight, t.k + h * t.dim, out, t.k_weight_grad, room);
  __builtin_memcpy(out, t.v, static_cast<unsigned long>(t.kv_heads * t.dim) * sizeof(float));
}

void silu_mul_back(const float* __restrict gate, const float* __restrict up,
                   const float* __restrict grad, int64_t count, float* __restrict gate_grad,
                   float* __restrict up_grad) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    Vec g = load(gate + i), d = load(grad + i);
    Vec s = 1.0f / (1.0f + exp(-g));
    store(up_grad + i, d * g * s);
    store(gate_grad + i, d * load(up + i) * s * (1.0f + g * (1.0f - s)));
  }
  for (; i < count; ++i) {
    Vec e = exp(broadcast(-gate[i]));
    const float s = 1.0f / (1.0f + e[0]);
    up_grad[i] = grad[i] * gate[i] * s;
    gate_grad[i] = grad[i] * up[i] * s * (1.0f + gate[i] * (1.0f - s));
  }
}

}  // namespace

namespace svgrl {
extern const Kernels ISA = {attend,         qkv_row,       silu_mul,     rms_norm, heads_row,
                            heads_row_back, silu_mul_back, rms_norm_back};
}
