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

// (n, c, h, w) of any floating type to (n, h * w, row) of T; channel i goes to channel_of(i), the rest is zero.
template <typename T, typename F>
void pack(const Tensor& x, T* to, int64_t row, F channel_of) {
  int64_t n = x.size(0), c = x.size(1), pixels = x.size(2) * x.size(3), blocks = (pixels + kPanel - 1) / kPanel;
  bool padded = row != c;
  with_type(x.scalar_type(), [&](auto tag) {
    using From = decltype(tag);
    Planes<const From> from = planes<const From>(x);
    st::parallel_for(0, n * blocks, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        int64_t first = i % blocks * kPanel, count = std::min(kPanel, pixels - first);
        T* out = to + (i / blocks * pixels + first) * row;
        if (padded) std::fill(out, out + count * row, T(0));
        for (int64_t k = 0; k < c; k++) {
          const From* in = from.plane(i / blocks, k) + first * from.position;
          T* column = out + channel_of(k);
          for (int64_t t = 0; t < count; t++) column[t * row] = static_cast<T>(in[t * from.position]);
        }
      }
    });
  });
}

// A packed gradient (part, n, h * w + 1, row), summed over the parts, to a tensor of any layout; the last pixel of an
// image is left out.
template <typename T, typename F>
void unpack(const T* from, int64_t parts, int64_t row, const Tensor& x, F channel_of) {
  int64_t n = x.size(0), c = x.size(1), pixels = x.size(2) * x.size(3), blocks = (pixels + kPanel - 1) / kPanel;
  with_type(x.scalar_type(), [&](auto tag) {
    using To = decltype(tag);
    Planes<To> to = planes<To>(x);
    st::parallel_for(0, n * blocks, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        int64_t first = i % blocks * kPanel, count = std::min(kPanel, pixels - first);
        const T* in = from + (i / blocks * (pixels + 1) + first) * row;
        for (int64_t k = 0; k < c; k++) {
          To* out = to.plane(i / blocks, k) + first * to.position;
          const T* column = in + channel_of(k);
          for (int64_t t = 0; t < count; t++) {
            T sum = column[t * row];
            for (int64_t part = 1; part < parts; part++) sum += column[(part * n * (pixels + 1) + t) * row];
            out[t * to.position] = static_cast<To>(sum);
          }
        }
      }
    });
  });
}

}  // namespace vsr
