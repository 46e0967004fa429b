// Sizes of one deformable convolution, read from its tensors and checked. Shared by the CPU and the CUDA kernels.
#pragma once

#include <limits>

#include "../tensors.h"

namespace vsr {

using Pair = std::vector<int64_t>;  // (vertical, horizontal)

struct Shape {
  int64_t n, c, h, w;             // input
  int64_t co, ho, wo;             // output
  int64_t kh, kw;                 // kernel
  int64_t groups, offset_groups;  // of the weight, of the offsets
  int64_t stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;

  int64_t taps() const { return kh * kw; }
  int64_t pixels() const { return h * w; }
  int64_t positions() const { return ho * wo; }
  int64_t group_channels() const { return c / offset_groups; }
};

inline int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

// Users see the messages of vsr/ops/deform_conv/checks.py; these checks keep a direct call of the op from reading out
// of bounds.
inline Shape make_shape(const Tensor& input, const Tensor& offset, const Tensor& weight,
                        const std::optional<Tensor>& bias, const std::optional<Tensor>& mask, const Pair& stride,
                        const Pair& padding, const Pair& dilation) {
  STD_TORCH_CHECK(input.dim() == 4 && offset.dim() == 4 && weight.dim() == 4,
                  "input, offset and weight have 4 dimensions");
  STD_TORCH_CHECK(stride.size() == 2 && padding.size() == 2 && dilation.size() == 2,
                  "stride, padding, dilation are pairs");
  STD_TORCH_CHECK(stride[0] > 0 && stride[1] > 0 && dilation[0] > 0 && dilation[1] > 0,
                  "stride and dilation are positive");
  STD_TORCH_CHECK(padding[0] >= 0 && padding[1] >= 0, "padding must not be negative");
  Shape s{};
  s.n = input.size(0), s.c = input.size(1), s.h = input.size(2), s.w = input.size(3);
  s.co = weight.size(0), s.kh = weight.size(2), s.kw = weight.size(3);
  STD_TORCH_CHECK(s.c > 0 && s.co > 0 && s.kh > 0 && s.kw > 0 && weight.size(1) > 0,
                  "input and weight have channels and taps");
  STD_TORCH_CHECK(s.c % weight.size(1) == 0, "input channels must be a multiple of weight.size(1)");
  s.groups = s.c / weight.size(1);
  STD_TORCH_CHECK(s.co % s.groups == 0, "output channels must be a multiple of the groups");
  s.stride_h = stride[0], s.stride_w = stride[1];
  s.padding_h = padding[0], s.padding_w = padding[1];
  s.dilation_h = dilation[0], s.dilation_w = dilation[1];
  s.ho = output_size(s.h, s.kh, s.stride_h, s.padding_h, s.dilation_h);
  s.wo = output_size(s.w, s.kw, s.stride_w, s.padding_w, s.dilation_w);
  s.offset_groups = offset.size(1) / (2 * s.taps());
  STD_TORCH_CHECK(s.offset_groups > 0 && offset.size(1) == 2 * s.taps() * s.offset_groups && s.c % s.offset_groups == 0,
                  "offset has 2 * offset_groups * kh * kw channels and offset_groups divides the input's");
  STD_TORCH_CHECK(offset.size(0) == s.n && offset.size(2) == s.ho && offset.size(3) == s.wo,
                  "offset is as large as the output");
  if (mask) {
    STD_TORCH_CHECK(mask->dim() == 4 && mask->size(0) == s.n && mask->size(1) == s.offset_groups * s.taps() &&
                        mask->size(2) == s.ho && mask->size(3) == s.wo,
                    "mask is as large as the output");
  }
  STD_TORCH_CHECK(weight.scalar_type() == input.scalar_type(), "weight must have the dtype of input");
  if (bias) {
    STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == s.co && bias->scalar_type() == input.scalar_type(),
                    "bias has one number per output channel, of the dtype of input");
  }
  STD_TORCH_CHECK(s.ho > 0 && s.wo > 0, "the output is empty");
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
  STD_TORCH_CHECK((s.h + 3) * (s.w + 2) < kLargest && s.positions() < kLargest,
                  "a frame with a border of zeros must have fewer than 2^31 pixels");
  return s;
}

inline void check_grad_output(const Shape& s, const Tensor& input, const Tensor& grad_output,
                              const std::vector<bool>& needed) {
  STD_TORCH_CHECK(needed.size() == 4, "needed must have 4 entries");
  STD_TORCH_CHECK(grad_output.dim() == 4 && grad_output.size(0) == s.n && grad_output.size(1) == s.co &&
                      grad_output.size(2) == s.ho && grad_output.size(3) == s.wo &&
                      grad_output.scalar_type() == input.scalar_type(),
                  "grad_output is like the output");
}

}  // namespace vsr
