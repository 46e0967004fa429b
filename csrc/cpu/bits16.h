// Numbers of bfloat16 in memory; kernels compute with them in float32, or multiply them with instructions for them.
#pragma once

#include <cstdint>

namespace vsr {

struct Bits16 {
  uint16_t bits;
};

}  // namespace vsr
