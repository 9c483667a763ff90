// Picks the kernels of the widest instruction set that this machine runs.
#include "kernels.h"

#include <atomic>

namespace svgrl {
namespace {

const Kernels* const tables[] = {
    &kernels_base,
#ifdef __x86_64__
    &kernels_v3,
    &kernels_v4,
#endif
};

int widest() {
  int level = 0;
#ifdef __x86_64__
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd") &&
                  __builtin_cpu_supports("avx512vl");
  if (v3) level = v4 ? 2 : 1;
#endif
  return level;
}

const int supported = widest();
std::atomic<int> chosen{supported};

}  // namespace

const Kernels& kernels() { return *tables[chosen.load(std::memory_order_relaxed)]; }
}  // namespace svgrl

// For tests: at most this level from now on (0 base, 1 AVX2, 2 AVX-512).
// Returns the level in use.
extern "C" int svgrl_limit_isa(int level) {
  const int used = level < svgrl::supported ? level : svgrl::supported;
  svgrl::chosen.store(used);
  return used;
}
