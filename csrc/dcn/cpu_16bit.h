// The deformable convolution of bfloat16 features on CPUs that multiply bfloat16.
#pragma once

#include <tuple>

#include "shape.h"

namespace vsr {

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // of input, offset, weight and mask

// Whether the functions below take the problem, and this CPU is faster with them.
bool computes_in_16_bits(const Shape& s, const Tensor& input);

Tensor forward_16bit(const Shape& s, const Tensor& input, const Tensor& offset, const Tensor& weight,
                     const std::optional<Tensor>& bias, const std::optional<Tensor>& mask);

Gradients backward_16bit(const Shape& s, const Tensor& grad_output, const Tensor& input, const Tensor& offset,
                         const Tensor& weight, const std::optional<Tensor>& mask, const std::vector<bool>& needed);

}  // namespace vsr
