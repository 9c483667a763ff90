// Declarations for ProcessGroupGloo.hpp: PyTorch's wheel ships that header but
// not Gloo's own. Objects of these classes are made and used inside libtorch
// alone; here they are only named, so that the header compiles.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
