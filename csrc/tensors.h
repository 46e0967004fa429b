// Helpers on PyTorch's stable ABI that all kernels share: names, memory formats, element types.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace vsr {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Whether a tensor is channels_last and not contiguous as well; dimensions of size 1 are ignored, as in PyTorch.
inline bool is_channels_last(const Tensor& x) {
  if (x.is_contiguous()) return false;
  int64_t expected = 1;
  for (int axis : {1, 3, 2, 0}) {
    if (x.size(axis) == 1) continue;
    if (x.stride(axis) != expected) return false;
    expected *= x.size(axis);
  }
  return true;
}

// The memory format of results and gradients: channels_last if the channels of `like` are innermost, also in a slice of
// a channels_last tensor, and `like` is not contiguous as well. As vsr/ops/tensors.py has it.
inline MemoryFormat layout_of(const Tensor& like) {
  bool inside = !like.is_contiguous() && like.size(1) > 1 && like.stride(1) == 1;
  return inside ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

// Uninitialised (n, c, h, w) tensor in the memory format of `like`, on its device.
inline Tensor empty_as(const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype) {
  return torch::stable::empty(sizes, dtype, std::nullopt, like.device(), std::nullopt, layout_of(like));
}

inline std::vector<int64_t> sizes_of(const Tensor& x) { return {x.sizes().begin(), x.sizes().end()}; }

// The placeholder of a gradient that is not needed; Python turns it into None.
inline Tensor no_gradient(const Tensor& like) {
  return torch::stable::empty({int64_t{0}}, like.scalar_type(), std::nullopt, like.device());
}

// Calls body(T{}) with the C++ type of a floating-point tensor.
template <typename F>
auto with_type(ScalarType dtype, F&& body) {
  switch (dtype) {
    case ScalarType::Float:
      return body(float{});
    case ScalarType::Double:
      return body(double{});
    case ScalarType::Half:
      return body(torch::headeronly::Half{});
    case ScalarType::BFloat16:
      return body(torch::headeronly::BFloat16{});
    default:
      STD_TORCH_CHECK(false, "float32, float64, float16 or bfloat16 expected");
  }
}

}  // namespace vsr
