// Tensors of any layout to the packed rows that the CPU kernels of the deformable convolution read, and back.
#pragma once

#include <algorithm>

#include "cpu_problem.h"

namespace vsr {

namespace st = torch::stable;

inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// A tensor whose positions have a common stride (contiguous, channels_last, or slices of them along n and c); copied
// only if necessary.
inline Tensor with_planes(const Tensor& x) {
  bool lines = x.size(2) <= 1 || x.size(3) <= 1 || x.stride(2) == x.size(3) * x.stride(3);
  return lines ? x : st::contiguous(x);
}

template <typename T>
Planes<T> planes(const Tensor& x) {
  int64_t position = x.size(3) > 1 ? x.stride(3) : x.stride(2);
  return {static_cast<T*>(x.data_ptr()), x.stride(0), x.stride(1), position};
}

// A flat tensor that lives as long as its handle. PyTorch's allocator reuses the memory in the next call; malloc would
// return it to the system.
template <typename T>
Tensor workspace(int64_t size) {
  return st::empty({size}, dtype_of<T>());
}

template <typename T>
Tensor zero_workspace(int64_t size) {
  Tensor x = workspace<T>(size);
  T* to = data<T>(x);
  st::parallel_for(0, (size + 65535) / 65536, 1, [&](int64_t begin, int64_t end) {
    int64_t last = std::min(size, end * 65536);
    std::fill(to + begin * 65536, to + last, T(0));
  });
  return x;
}

// Move(out, in) gets each element of a tensor's planes and of packed pixels, in an order that suits the tensor.
template <typename To, typename From, typename F>
void visit_pixels(const Tensor& x, const Planes<From>& planes, const Pixels& pixels, To* packed, F move) {
  int64_t c = x.size(1), h = x.size(2), w = x.size(3);
  st::parallel_for(0, x.size(0) * h, 1 + 1024 / std::max<int64_t>(w, 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
      for (int64_t k = 0; k < c; k += pixels.width) {
        int64_t n = i / h, y = i % h;
        From* in = planes.plane(n, k) + y * w * planes.position;
        To* out = packed + pixels.start + n * pixels.image + k / pixels.width * pixels.group + y * pixels.line;
        if (planes.channel == 1) {
          for (int64_t t = 0; t < w; t++)
            for (int64_t j = 0; j < pixels.width; j++) move(out[t * pixels.row + j], in[t * planes.position + j]);
        } else {
          for (int64_t j = 0; j < pixels.width; j++)
            for (int64_t t = 0; t < w; t++) move(out[t * pixels.row + j], in[j * planes.channel + t * planes.position]);
        }
      }
  });
}

// (n, c, h, w) of any floating type to packed pixels of T.
template <typename T>
void pack(const Tensor& x, const Pixels& pixels, T* to) {
  with_type(x.scalar_type(), [&](auto tag) {
    using From = decltype(tag);
    visit_pixels(x, planes<const From>(x), pixels, to, [](T& out, const From& in) { out = static_cast<T>(in); });
  });
}

// Packed pixels (part, n, ...), summed over the parts, to a tensor of any layout.
template <typename T>
void unpack(const T* from, int64_t parts, const Pixels& pixels, const Tensor& x) {
  int64_t step = x.size(0) * pixels.image;
  with_type(x.scalar_type(), [&](auto tag) {
    using To = decltype(tag);
    visit_pixels(x, planes<To>(x), pixels, from, [&](const T& in, To& out) {
      T sum = in;
      for (int64_t part = 1; part < parts; part++) sum += (&in)[part * step];
      out = static_cast<To>(sum);
    });
  });
}

}  // namespace vsr
