// The data of the 3×3 convolution by Winograd's method.
//
// A tile of outputs reads two pixels more along both axes. Pixels and weights are transformed to as many points as it
// reads, at which a product over the channels replaces the nine taps: 4 times fewer multiplications than nine for each
// output of the 4×4 of float32, 3 times fewer for the 2×4 of bfloat16. Bfloat16 rounds the transformed pixels and weights
// to 8 bits, which the coefficients of a larger tile would enlarge too much.
#pragma once

#include <algorithm>

#include "../cpu/bits16.h"
#include "../cpu/memory.h"

namespace vsr::conv3x3 {

// How features of T are computed. A word of 32 bits holds the factors of one multiplication, which adds their products:
// a float, or two numbers of bfloat16.
template <typename T>
struct Method;
template <>
struct Method<float> {
  static constexpr int kTileH = 4, kTileW = 4, kFactors = 1;
  typedef float Word;
  static constexpr int64_t kBlock = 24;  // tiles whose points stay in the L2 cache
};
template <>
struct Method<Bits16> {
  static constexpr int kTileH = 2, kTileW = 4, kFactors = 2;
  typedef uint32_t Word;
  static constexpr int64_t kBlock = 36;
};
template <typename T>
constexpr int kReadH = Method<T>::kTileH + 2;  // pixels that a tile reads
template <typename T>
constexpr int kReadW = Method<T>::kTileW + 2;
template <typename T>
constexpr int kPoints = kReadH<T> * kReadW<T>;

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Features (n, channels, h, w) whose channels are side by side.
template <typename T>
struct Features {
  T* data;
  int64_t n, channels, h, w;
  int64_t image, line, pixel;  // strides
  bool has(int64_t y, int64_t x) const { return y >= 0 && y < h && x >= 0 && x < w; }
  T* at(int64_t image_index, int64_t y, int64_t x) const { return data + image_index * image + y * line + x * pixel; }
};

// Tiles are numbered through all images, row by row.
template <typename T>
struct Tiles {
  int64_t rows, columns, count;
  explicit Tiles(const Features<T>& x) : rows(round_up(x.h, kH) / kH), columns(round_up(x.w, kW) / kW) {
    count = x.n * rows * columns;
  }
  int64_t image(int64_t tile) const { return tile / (rows * columns); }
  int64_t top(int64_t tile) const { return tile / columns % rows * kH; }  // of its first output
  int64_t left(int64_t tile) const { return tile % columns * kW; }

 private:
  static constexpr int kH = Method<std::remove_const_t<T>>::kTileH, kW = Method<std::remove_const_t<T>>::kTileW;
};

// The weight (outputs, channels, 3, 3) as the kernels read it; one turned round, and with the channels' strides
// exchanged, computes the gradient of the input.
struct Weight {
  const float* data;
  int64_t outputs, channels, output, channel;  // strides
  bool is_turned;
  float tap(int64_t o, int64_t c, int k) const { return data[o * output + c * channel + (is_turned ? 8 - k : k)]; }
};

// The sizes of what the kernels compute with; `lanes` are the floats of a register, a panel some registers.
template <typename T>
struct Sizes {
  int64_t channels, outputs, words, panel;  // rounded up; channels in words

  Sizes(int64_t in, int64_t out, int64_t lanes, int64_t panel_registers)
      : channels(round_up(in, lanes * Method<T>::kFactors)),
        outputs(round_up(out, lanes)),
        words(channels / Method<T>::kFactors),
        panel(lanes * panel_registers) {}

  int64_t width(int64_t first) const { return std::min(panel, outputs - first); }  // of the panel that starts there
  int64_t weight() const { return kPoints<T> * words * outputs; }
  // The points of a block of tiles; lines of one more cache line each do not share the sets of the cache.
  int64_t pixels_of_point() const { return Method<T>::kBlock * channels + kSpare<T>; }
  int64_t gradients_of_point() const { return Method<T>::kBlock * outputs + kSpare<T>; }
  int64_t products_of_point() const { return Method<T>::kBlock * panel + kSpare<float>; }

  template <typename S>
  static constexpr int64_t kSpare = 3 * 64 / sizeof(S);
};

// The kernels compiled for one instruction set. A block is the tiles first ... first + count.
template <typename T>
struct Kernels {
  int lanes, panel_registers;
  // The points (panel, point, word, output) of the outputs from `output` on, one register of them.
  void (*weights)(const Weight&, const Sizes<T>&, int64_t output, typename Method<T>::Word* to);
  // A block of `out`; `pixels` and `products` are scratch memory.
  void (*convolve)(const Sizes<T>&, const Features<const T>& in, const typename Method<T>::Word* weights,
                   const float* bias, const Features<T>& out, int64_t first, int64_t count, T* pixels, float* products);
  // Adds a block's share to the points (panel, point, channel, output) of the weight's gradient, and to the bias's.
  void (*add_gradients)(const Sizes<T>&, const Features<const T>& in, const Features<const T>& grad_out, int64_t first,
                        int64_t count, T* pixels, T* gradients, float* grad_weights, float* grad_bias);
  // The weight's gradient (outputs, channels, 3, 3) of one channel, from the sum of some parts of such points.
  void (*taps)(const Sizes<T>&, const float* points, int64_t parts, int64_t channel, int64_t outputs, int64_t channels,
               float* to);
};

}  // namespace vsr::conv3x3
