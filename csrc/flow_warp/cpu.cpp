// CPU backward warping: computes the four corners of every position once, packs 16 channels of a frame (a slab) into a
// table with a row per pixel, and samples whole rows.
//
// Everything is computed in fp32 (fp64 for fp64). The forward pass shares (image, slab, block of positions) among the
// threads, the backward pass (image, slab), which own disjoint parts of the gradients: no atomics, and results do not
// depend on the number of threads. A corner outside the frame is the row after the last pixel, which is zero.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../cpu/choice.h"
#include "../cpu/memory.h"

namespace vsr::flow_warp {

constexpr int64_t kSlab = 16;
constexpr int64_t kBlock = 64;  // positions whose slab stays in the L1 cache

template <typename T>
struct Corners {
  int32_t index[4];  // rows of the table: top left, top right, bottom left, bottom right
  T weight[4];
  T dx, dy;            // of the position from the top left corner
  T slope_x, slope_y;  // 0 where the border stopped the flow, or it led further out than a pixel; otherwise 1
};

template <typename T>
struct Kernels {
  void (*sample)(const T*, const Corners<T>*, long, T*);
  void (*scatter)(const T*, const Corners<T>*, long, T*);
  void (*slopes)(const T*, const T*, const Corners<T>*, long, T*, T*, T*);
  void (*transposed)(const T*, long, long, long, T*, long);
};

#define VSR_KERNELS "../flow_warp/cpu_kernels.h"
#include "../cpu/instruction_sets.h"

namespace {

namespace st = torch::stable;

struct Shape {
  int64_t n, c, h, w;
  int64_t pixels() const { return h * w; }
  int64_t slabs() const { return (c + kSlab - 1) / kSlab; }
  int64_t blocks() const { return (pixels() + kBlock - 1) / kBlock; }
  int64_t table() const { return (pixels() + 1) * kSlab; }
};

// Users see the messages of vsr/ops; these checks keep a direct call of the op from reading out of bounds.
Shape make_shape(const Tensor& x, const Tensor& flow) {
  STD_TORCH_CHECK(x.dim() == 4 && flow.dim() == 4, "x and flow must have 4 dimensions");
  Shape s{x.size(0), x.size(1), x.size(2), x.size(3)};
  STD_TORCH_CHECK(flow.size(0) == s.n && flow.size(1) == 2 && flow.size(2) == s.h && flow.size(3) == s.w,
                  "flow must be (n, 2, h, w) of x");
  STD_TORCH_CHECK(s.pixels() < std::numeric_limits<int32_t>::max(), "a frame has too many pixels");
  return s;
}

// A tensor whose positions have a common stride (contiguous or channels_last), copied only if necessary.
struct Planes {
  explicit Planes(const Tensor& x) : x(x) {
    bool lines = x.size(2) <= 1 || x.size(3) <= 1 || x.stride(2) == x.size(3) * x.stride(3);
    if (!lines) this->x = st::contiguous(x);
    channels = x.size(1), image = this->x.stride(0), channel = this->x.stride(1);
    position = x.size(3) > 1 ? this->x.stride(3) : this->x.stride(2);
  }
  Tensor x;
  int64_t channels, image, channel, position;
};

// Calls body(pointer, number of channels) for the first element of a slab's `first` pixel.
template <typename F>
void with_slab(const Planes& x, int64_t image, int64_t slab, int64_t first, F&& body) {
  with_type(x.x.scalar_type(), [&](auto tag) {
    body(data<decltype(tag)>(x.x) + image * x.image + slab * kSlab * x.channel + first * x.position,
         std::min(kSlab, x.channels - slab * kSlab));
  });
}

// `count` pixels from `first` on, of the slab's channels, to rows of kSlab values; missing channels are zero.
template <typename T>
void pack(const Kernels<T>& kernels, const Planes& x, int64_t image, int64_t slab, int64_t first, int64_t count,
          T* to) {
  const int64_t channel = x.channel, position = x.position;
  with_slab(x, image, slab, first, [&](const auto* from, int64_t channels) {
    if (channels < kSlab) std::fill(to, to + count * kSlab, T(0));
    int64_t done = 0;
    if constexpr (std::is_same_v<std::decay_t<decltype(*from)>, T>)
      if (position == 1 && channels == kSlab) {
        done = count / 4 * 4;
        kernels.transposed(from, channel, kSlab, done / 4, to, kSlab);
      }
    if (channel == 1) {
      for (int64_t p = done; p < count; p++)
        for (int64_t k = 0; k < channels; k++) to[p * kSlab + k] = static_cast<T>(from[p * position + k]);
    } else {
      for (int64_t k = 0; k < channels; k++)
        for (int64_t p = done; p < count; p++)
          to[p * kSlab + k] = static_cast<T>(from[k * channel + p * position]);
    }
  });
}

template <typename T>
void unpack(const Kernels<T>& kernels, const T* from, const Planes& x, int64_t image, int64_t slab, int64_t first,
            int64_t count) {
  const int64_t channel = x.channel, position = x.position;
  with_slab(x, image, slab, first, [&](auto* to, int64_t channels) {
    using To = std::remove_pointer_t<decltype(to)>;
    int64_t done = 0;
    if constexpr (std::is_same_v<To, T>)
      if (position == 1 && channels == kSlab) {
        done = count / 4 * 4;
        kernels.transposed(from, kSlab, done, kSlab / 4, to, channel);
      }
    if (channel == 1) {
      for (int64_t p = done; p < count; p++)
        for (int64_t k = 0; k < channels; k++) to[p * position + k] = static_cast<To>(from[p * kSlab + k]);
    } else {
      for (int64_t k = 0; k < channels; k++)
        for (int64_t p = done; p < count; p++)
          to[k * channel + p * position] = static_cast<To>(from[p * kSlab + k]);
    }
  });
}

template <typename T>
Corners<T> corners_of(const Shape& s, int64_t row, int64_t column, T flow_x, T flow_y, bool border) {
  T x = static_cast<T>(column) + flow_x, y = static_cast<T>(row) + flow_y;
  Corners<T> c;
  c.slope_x = c.slope_y = T(1);
  T last_x = static_cast<T>(s.w - 1), last_y = static_cast<T>(s.h - 1);
  if (std::isnan(x) || std::isnan(y)) {
    std::fill(c.index, c.index + 4, static_cast<int32_t>(s.pixels()));
    std::fill(c.weight, c.weight + 4, std::numeric_limits<T>::quiet_NaN());
    c.dx = c.dy = std::numeric_limits<T>::quiet_NaN();
    return c;
  }
  if (border) {
    if (!(x > 0 && x < last_x)) x = std::min(std::max(x, T(0)), last_x), c.slope_x = 0;
    if (!(y > 0 && y < last_y)) y = std::min(std::max(y, T(0)), last_y), c.slope_y = 0;
  }
  if (!(x >= -1 && x <= static_cast<T>(s.w))) x = x < 0 ? T(-1) : static_cast<T>(s.w), c.slope_x = 0;
  if (!(y >= -1 && y <= static_cast<T>(s.h))) y = y < 0 ? T(-1) : static_cast<T>(s.h), c.slope_y = 0;
  int32_t left = static_cast<int32_t>(x), top = static_cast<int32_t>(y);  // towards zero; the floor is meant
  left -= x < static_cast<T>(left), top -= y < static_cast<T>(top);
  c.dx = x - static_cast<T>(left), c.dy = y - static_cast<T>(top);
  const int32_t h = static_cast<int32_t>(s.h), w = static_cast<int32_t>(s.w), outside = h * w, at = top * w + left;
  const bool has_top = top >= 0 && top < h, has_bottom = top + 1 < h, has_left = left >= 0 && left < w;
  const bool has_right = left + 1 < w;
  c.index[0] = has_top & has_left ? at : outside, c.index[1] = has_top & has_right ? at + 1 : outside;
  c.index[2] = has_bottom & has_left ? at + w : outside, c.index[3] = has_bottom & has_right ? at + w + 1 : outside;
  c.weight[0] = (1 - c.dy) * (1 - c.dx), c.weight[1] = (1 - c.dy) * c.dx;
  c.weight[2] = c.dy * (1 - c.dx), c.weight[3] = c.dy * c.dx;
  return c;
}

// The corners of all positions, (n, h · w).
template <typename T>
class AllCorners {
 public:
  AllCorners(const Shape& s, const Tensor& flow, bool border)
      : pixels_(s.pixels()), memory_(st::empty({s.n * s.pixels() * int64_t(sizeof(Corners<T>))}, ScalarType::Byte)) {
    Tensor dense = st::contiguous(st::to(flow, dtype_of<T>()));
    const T* from = data<T>(dense);
    auto* to = static_cast<Corners<T>*>(memory_.data_ptr());
    st::parallel_for(0, s.n * s.h, 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        int64_t image = i / s.h, row = i % s.h;
        const T* flow_x = from + image * 2 * s.pixels() + row * s.w;
        for (int64_t j = 0; j < s.w; j++)
          to[i * s.w + j] = corners_of(s, row, j, flow_x[j], flow_x[s.pixels() + j], border);
      }
    });
  }
  const Corners<T>* at(int64_t image, int64_t pixel) const {
    return static_cast<const Corners<T>*>(memory_.data_ptr()) + image * pixels_ + pixel;
  }

 private:
  int64_t pixels_;
  Tensor memory_;
};

template <typename T>
void fill_table(const Kernels<T>& kernels, const Shape& s, const Planes& x, int64_t image, int64_t slab, T* table) {
  for (int64_t first = 0; first < s.pixels(); first += kBlock)
    pack(kernels, x, image, slab, first, std::min(kBlock, s.pixels() - first), table + first * kSlab);
  std::fill(table + s.pixels() * kSlab, table + s.table(), T(0));
}

// Memory of a thread, reused from task to task. PyTorch's allocator keeps it for the next call.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t size) : memory_(st::empty({size}, dtype_of<T>())) {}
  T* get() const { return data<T>(memory_); }

 private:
  Tensor memory_;
};

template <typename T>
Tensor forward(const Shape& s, const Tensor& x, const Tensor& flow, bool border) {
  Tensor output = empty_as(x, sizes_of(x), x.scalar_type());
  if (output.numel() == 0) return output;
  const AllCorners<T> corners(s, flow, border);
  const Kernels<T> kernels = choose_kernels<T>();
  const Planes from(x), to(output);
  st::parallel_for(0, s.n * s.slabs(), 1, [&](int64_t begin, int64_t end) {
    const Scratch<T> table(s.table()), tile(kBlock * kSlab);
    for (int64_t i = begin; i < end; i++) {
      int64_t image = i / s.slabs(), slab = i % s.slabs();
      fill_table(kernels, s, from, image, slab, table.get());
      for (int64_t first = 0; first < s.pixels(); first += kBlock) {
        int64_t count = std::min(kBlock, s.pixels() - first);
        kernels.sample(table.get(), corners.at(image, first), count, tile.get());
        unpack(kernels, tile.get(), to, image, slab, first, count);
      }
    }
  });
  return output;
}

template <typename T>
std::tuple<Tensor, Tensor> backward(const Shape& s, const Tensor& grad, const Tensor& x, const Tensor& flow,
                                    bool border, bool need_x, bool need_flow) {
  Tensor grad_x = need_x ? empty_as(x, sizes_of(x), x.scalar_type()) : no_gradient(x);
  // of each slab, which are summed afterwards, in order
  Tensor by_slab = st::empty({s.slabs(), s.n, 2, s.h, s.w}, dtype_of<T>());
  if (s.n * s.pixels() * s.c > 0) {
    const AllCorners<T> corners(s, flow, border);
    const Kernels<T> kernels = choose_kernels<T>();
    const Planes from(x), grad_planes(grad), to(grad_x.dim() == 4 ? grad_x : x);
    T* slopes = data<T>(by_slab);
    st::parallel_for(0, s.n * s.slabs(), 1, [&](int64_t begin, int64_t end) {
      const Scratch<T> table(need_flow ? s.table() : 0), sums(need_x ? s.table() : 0);
      const Scratch<T> tile(kBlock * kSlab), lanes(8 * kBlock);
      for (int64_t i = begin; i < end; i++) {
        int64_t image = i / s.slabs(), slab = i % s.slabs();
        T* along_x = slopes + (slab * s.n + image) * 2 * s.pixels();
        if (need_flow) fill_table(kernels, s, from, image, slab, table.get());
        if (need_x) std::fill(sums.get(), sums.get() + s.table(), T(0));
        for (int64_t first = 0; first < s.pixels(); first += kBlock) {
          int64_t count = std::min(kBlock, s.pixels() - first);
          const Corners<T>* at = corners.at(image, first);
          pack(kernels, grad_planes, image, slab, first, count, tile.get());
          if (need_x) kernels.scatter(tile.get(), at, count, sums.get());
          if (need_flow)
            kernels.slopes(table.get(), tile.get(), at, count, lanes.get(), along_x + first,
                           along_x + s.pixels() + first);
        }
        for (int64_t first = 0; need_x && first < s.pixels(); first += kBlock)
          unpack(kernels, sums.get() + first * kSlab, to, image, slab, first, std::min(kBlock, s.pixels() - first));
      }
    });
  }
  Tensor grad_flow = need_flow ? st::to(st::sum(by_slab, std::vector<int64_t>{0}), flow.scalar_type()) : no_gradient(x);
  return {grad_x, grad_flow};
}

Tensor flow_warp(const Tensor& x, const Tensor& flow, bool border) {
  Shape s = make_shape(x, flow);
  return x.scalar_type() == ScalarType::Double ? forward<double>(s, x, flow, border) : forward<float>(s, x, flow, border);
}

std::tuple<Tensor, Tensor> flow_warp_backward(const Tensor& grad, const Tensor& x, const Tensor& flow, bool border,
                                              std::vector<bool> needed) {
  Shape s = make_shape(x, flow);
  STD_TORCH_CHECK(grad.dim() == 4 && grad.scalar_type() == x.scalar_type() && sizes_of(grad) == sizes_of(x) &&
                      needed.size() == 2,
                  "grad must be like x");
  if (x.scalar_type() == ScalarType::Double) return backward<double>(s, grad, x, flow, border, needed[0], needed[1]);
  return backward<float>(s, grad, x, flow, border, needed[0], needed[1]);
}

}  // namespace
}  // namespace vsr::flow_warp

STABLE_TORCH_LIBRARY_IMPL(vsr, CPU, m) {
  m.impl("flow_warp", TORCH_BOX(&vsr::flow_warp::flow_warp));
  m.impl("flow_warp_backward", TORCH_BOX(&vsr::flow_warp::flow_warp_backward));
}
