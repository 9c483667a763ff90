// Vectors of LANES floats in GCC's and Clang's own notation, and the few
// functions of them that the kernels need. Everything is local to the file
// that includes this.
#pragma once

#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

#define INLINE inline __attribute__((always_inline))

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t IntVec __attribute__((vector_size(LANES * 4)));
typedef float LooseVec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef float Vec4 __attribute__((vector_size(16)));
typedef float Vec8 __attribute__((vector_size(32)));

INLINE Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
INLINE void store(float* p, Vec x) { *reinterpret_cast<LooseVec*>(p) = x; }
INLINE Vec broadcast(float x) { return Vec{} + x; }

INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }

#if defined(__AVX512F__)
INLINE Vec4 fold(Vec x) {
  Vec8 h = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
}
#elif defined(__AVX2__)
INLINE Vec4 fold(Vec x) {
  return __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
}
#else
INLINE Vec4 fold(Vec x) { return x; }
#endif

INLINE float sum(Vec x) {
  Vec4 h = fold(x);
  return (h[0] + h[2]) + (h[1] + h[3]);
}

// The sums of four vectors, in order.
INLINE Vec4 sums(Vec a, Vec b, Vec c, Vec d) {
  Vec4 fa = fold(a), fb = fold(b), fc = fold(c), fd = fold(d);
  Vec4 ab = __builtin_shufflevector(fa, fb, 0, 4, 1, 5) +
            __builtin_shufflevector(fa, fb, 2, 6, 3, 7);
  Vec4 cd = __builtin_shufflevector(fc, fd, 0, 4, 1, 5) +
            __builtin_shufflevector(fc, fd, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

INLINE float largest(Vec x) {
  float m = x[0];
  for (int i = 1; i < LANES; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

// e^x: x = n ln 2 + r with |r| <= 0.35, then the series of e^r to r^7, whose
// rest is below half a unit in the last place of float32. NaN stays NaN.
INLINE Vec exp(Vec x) {
  Vec clipped = min(max(x, broadcast(-87.0f)), broadcast(88.0f));
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  Vec n = (clipped * 1.44269504088896341f + round) - round;
  Vec r = clipped - n * 0.693145751953125f;
  r = r - n * 1.42860682030941723e-6f;
  Vec p = broadcast(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  IntVec power = (__builtin_convertvector(n, IntVec) + 127) << 23;
  Vec y = p * (Vec)power;  // a cast between vectors keeps the bits
  return x == x ? y : x;
}

}  // namespace
