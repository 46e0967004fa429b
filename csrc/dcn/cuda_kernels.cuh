// The CUDA kernels, correct for any shape: one thread per (position, group, tap) that loops over the group's channels.
//
// tests/test_ops_cuda_source.py compiles them for the CPU and runs them there, thread after thread: no thread waits for
// another. Features are channels_last. All indices into tensors have 64 bits. Coordinates, offsets, masks and sums are
// Acc: float, or double for double.
#pragma once

#include <cstdint>

namespace vsr {

struct CudaShape {
  int64_t c, h, w, ho, wo, kh, kw;
  int64_t stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int64_t offset_groups, groups;

  __host__ __device__ int64_t taps() const { return kh * kw; }
  __host__ __device__ int64_t group_channels() const { return c / offset_groups; }
  // Column of a channel and tap: the columns of a weight group stand together, tap by tap.
  __host__ __device__ int64_t column(int64_t channel, int64_t tap) const {
    int64_t read = c / groups;
    return (channel / read * taps() + tap) * read + channel % read;
  }
};

// Element (n, c, y, x) of a tensor with any strides.
template <typename T>
struct Strided {
  T* data;
  int64_t n, c, y, x;
  __host__ __device__ T& at(int64_t in, int64_t ic, int64_t iy, int64_t ix) const {
    return data[in * n + ic * c + iy * y + ix * x];
  }
};

// The four pixels around a point, bilinear. As in torchvision a coordinate of exactly -1 has no value, but a
// derivative.
template <typename Acc>
struct Point {
  Acc y, x, dy, dx;
  int64_t pixel[4];  // upper left, upper right, lower left, lower right; -1 outside the frame
  Acc weight[4];

  __host__ __device__ Point(Acc y_, Acc x_, int64_t h, int64_t w) : y(y_), x(x_) {
    bool inside = y >= Acc(-1) && y < Acc(h) && x >= Acc(-1) && x < Acc(w);
    bool number = y == y && x == x;
    Acc top = inside ? floor(y) : Acc(0), left = inside ? floor(x) : Acc(0);
    dy = inside ? y - top : number ? Acc(0) : y + x;
    dx = inside ? x - left : number ? Acc(0) : y + x;
    for (int i = 0; i < 4; i++) {
      int64_t row = int64_t(top) + i / 2, column = int64_t(left) + i % 2;
      pixel[i] = inside && row >= 0 && row < h && column >= 0 && column < w ? row * w + column : -1;
      weight[i] = (i / 2 ? dy : 1 - dy) * (i % 2 ? dx : 1 - dx);
    }
  }
};

// Where a thread works: the index is (position, group, tap) with the position first, so that neighbours read
// neighbouring offsets.
struct Place {
  int64_t n, y, x, group, tap, row;  // row of the columns

  __host__ __device__ Place(const CudaShape& s, int64_t index, int64_t first, int64_t count) {
    row = index % count;
    int64_t rest = index / count, position = first + row;
    tap = rest % s.taps(), group = rest / s.taps();
    x = position % s.wo, y = position / s.wo % s.ho, n = position / (s.wo * s.ho);
  }
};

template <typename Acc>
__host__ __device__ Point<Acc> point_at(const CudaShape& s, const Place& at, const Strided<const Acc>& offset) {
  int64_t channel = 2 * (at.group * s.taps() + at.tap);
  Acc y = Acc(at.y * s.stride_h - s.padding_h + at.tap / s.kw * s.dilation_h) + offset.at(at.n, channel, at.y, at.x);
  Acc x =
      Acc(at.x * s.stride_w - s.padding_w + at.tap % s.kw * s.dilation_w) + offset.at(at.n, channel + 1, at.y, at.x);
  return Point<Acc>(y, x, s.h, s.w);
}

// Columns (count, groups, taps, c / groups) of the positions first ... first + count.
template <typename T, typename Acc>
__global__ void columns_kernel(CudaShape s, int64_t first, int64_t count, const T* input, Strided<const Acc> offset,
                               Strided<const Acc> mask, T* columns) {
  int64_t total = count * s.offset_groups * s.taps();
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < total; i += int64_t(gridDim.x) * blockDim.x) {
    Place at(s, i, first, count);
    Point<Acc> point = point_at<Acc>(s, at, offset);
    Acc factor = mask.data ? mask.at(at.n, at.group * s.taps() + at.tap, at.y, at.x) : Acc(1);
    const T* image = input + at.n * s.h * s.w * s.c;
    for (int64_t k = 0; k < s.group_channels(); k++) {
      int64_t channel = at.group * s.group_channels() + k;
      Acc sum = 0;
      for (int j = 0; j < 4; j++) {
        Acc value = point.pixel[j] < 0 || point.y == Acc(-1) || point.x == Acc(-1)
                        ? Acc(0)
                        : Acc(image[point.pixel[j] * s.c + channel]);
        sum += value * point.weight[j];
      }
      columns[at.row * s.c * s.taps() + s.column(channel, at.tap)] = T(sum * factor);
    }
  }
}

// Adds to grad_input in Acc: fast, in an order that differs from run to run.
template <typename Acc>
struct AddAtomically {
  Acc* sum;
  __device__ void operator()(int64_t index, Acc value) const { atomicAdd(sum + index, value); }
};

// Adds in fixed point: exactly, and hence in any order. `scale` makes the largest possible sum fit into 62 bits.
template <typename Acc>
struct AddInFixedPoint {
  unsigned long long* sum;
  const double* scale;
  __device__ void operator()(int64_t index, Acc value) const {
    atomicAdd(sum + index, static_cast<unsigned long long>(static_cast<long long>(double(value) * *scale)));
  }
};

// Gradients of offset and mask, and the input's through `add`, from those of the columns. Null data is not needed.
template <typename T, typename Acc, typename Add>
__global__ void gradients_kernel(CudaShape s, int64_t first, int64_t count, const T* input, Strided<const Acc> offset,
                                 Strided<const Acc> mask, const T* grad_columns, bool need_input, Add add,
                                 Strided<Acc> grad_offset, Strided<Acc> grad_mask) {
  int64_t total = count * s.offset_groups * s.taps();
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < total; i += int64_t(gridDim.x) * blockDim.x) {
    Place at(s, i, first, count);
    Point<Acc> point = point_at<Acc>(s, at, offset);
    int64_t pair = at.group * s.taps() + at.tap;
    Acc factor = mask.data ? mask.at(at.n, pair, at.y, at.x) : Acc(1);
    int64_t image = at.n * s.h * s.w * s.c;
    Acc dot[4] = {0, 0, 0, 0};
    for (int64_t k = 0; k < s.group_channels(); k++) {
      int64_t channel = at.group * s.group_channels() + k;
      Acc gradient = Acc(grad_columns[at.row * s.c * s.taps() + s.column(channel, at.tap)]);
      for (int j = 0; j < 4; j++) {
        if (point.pixel[j] < 0) {
          dot[j] += gradient * Acc(0);  // keeps a NaN gradient visible
          continue;
        }
        int64_t index = image + point.pixel[j] * s.c + channel;
        dot[j] += gradient * Acc(input[index]);
        if (need_input) add(index, gradient * factor * point.weight[j]);
      }
    }
    if (grad_offset.data) {
      Acc by_y = (1 - point.dx) * (dot[2] - dot[0]) + point.dx * (dot[3] - dot[1]);
      Acc by_x = (1 - point.dy) * (dot[1] - dot[0]) + point.dy * (dot[3] - dot[2]);
      grad_offset.at(at.n, 2 * pair, at.y, at.x) = factor * by_y;
      grad_offset.at(at.n, 2 * pair + 1, at.y, at.x) = factor * by_x;
    }
    if (grad_mask.data) {
      Acc sum = 0;
      for (int j = 0; j < 4; j++) sum += point.weight[j] * dot[j];
      grad_mask.at(at.n, pair, at.y, at.x) = sum;
    }
  }
}

// The power of two by which the largest possible sum fills 61 bits: terms * max|grad_output| * max|weight| * max|mask|.
// It is NaN when one of these is NaN or infinite, and makes the whole gradient so. Every thread writes the same.
template <typename T, typename Acc>
__global__ void scale_kernel(const T* grad_output, const T* weight, const Acc* mask, double terms, double* scale) {
  double largest = terms * double(Acc(*grad_output)) * double(Acc(*weight)) * (mask ? double(*mask) : 1.0);
  *scale = largest == 0 ? 1.0 : exp2(floor(60.0 - log2(largest))) + 0 * largest;
}

template <typename Acc>
__global__ void from_fixed_point_kernel(const unsigned long long* sum, const double* scale, Acc* out, int64_t size) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < size; i += int64_t(gridDim.x) * blockDim.x)
    out[i] = Acc(double(static_cast<long long>(sum[i])) / *scale);
}

// sum (size) += x.
template <typename T, typename Acc>
__global__ void add_kernel(Acc* sum, const T* x, int64_t size) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < size; i += int64_t(gridDim.x) * blockDim.x)
    sum[i] += Acc(x[i]);
}

// output (any layout) = rows (positions, co) + bias.
template <typename T, typename Acc>
__global__ void finish_kernel(const T* rows, const T* bias, Strided<T> output, int64_t co, int64_t ho, int64_t wo,
                              int64_t size) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < size; i += int64_t(gridDim.x) * blockDim.x) {
    int64_t channel = i % co, position = i / co;
    Acc value = Acc(rows[i]) + (bias ? Acc(bias[channel]) : Acc(0));
    output.at(position / (ho * wo), channel, position / wo % ho, position % wo) = T(value);
  }
}

}  // namespace vsr
