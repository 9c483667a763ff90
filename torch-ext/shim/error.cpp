#include "shim.h"

namespace {
thread_local std::string last_error;
}

namespace svgrl {
void remember_error(const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
}
}  // namespace svgrl

// Valid until the next failing call on this thread.
extern "C" const char* svgrl_last_error() { return last_error.c_str(); }
