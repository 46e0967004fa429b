// The kernels of the 3×3 convolution. cpu/instruction_sets.h includes this file once per instruction set.

#include "../cpu/products.h"

// Winograd's transforms of a line: F(2, 3) at the points 0, ±1 and infinity, and F(4, 3) at 0, ±kA, ±kB and infinity
// (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1). Their points 0, ±1, ±2
// round more.
constexpr float kA = 0.75f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;
constexpr float kWeight0 = 1 / (kA2 * kB2), kWeightA = 1 / (2 * kA2 * (kA2 - kB2)), kWeightB = 1 / (2 * kB2 * (kB2 - kA2));

struct OfPixels {  // Bᵀ
  VSR_INLINE void apply(const Floats (&d)[4], Floats (&to)[4]) {
    to[0] = d[0] - d[2], to[1] = d[1] + d[2], to[2] = d[2] - d[1], to[3] = d[1] - d[3];
  }
  VSR_INLINE void apply(const Floats (&d)[6], Floats (&to)[6]) {
    Floats even_a = d[4] - kB2 * d[2], odd_a = kA * (d[3] - kB2 * d[1]);
    Floats even_b = d[4] - kA2 * d[2], odd_b = kB * (d[3] - kA2 * d[1]);
    to[0] = kA2 * kB2 * d[0] - (kA2 + kB2) * d[2] + d[4], to[5] = kA2 * kB2 * d[1] - (kA2 + kB2) * d[3] + d[5];
    to[1] = even_a + odd_a, to[2] = even_a - odd_a, to[3] = even_b + odd_b, to[4] = even_b - odd_b;
  }
};
struct OfTaps {  // G
  VSR_INLINE void apply(const Floats (&g)[3], Floats (&to)[4]) {
    Floats even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
    to[0] = g[0], to[1] = even + odd, to[2] = even - odd, to[3] = g[2];
  }
  VSR_INLINE void apply(const Floats (&g)[3], Floats (&to)[6]) {
    Floats even_a = kWeightA * (g[0] + kA2 * g[2]), odd_a = kWeightA * kA * g[1];
    Floats even_b = kWeightB * (g[0] + kB2 * g[2]), odd_b = kWeightB * kB * g[1];
    to[0] = kWeight0 * g[0], to[5] = g[2];
    to[1] = even_a + odd_a, to[2] = even_a - odd_a, to[3] = even_b + odd_b, to[4] = even_b - odd_b;
  }
};
struct ToOutputs {  // Aᵀ
  VSR_INLINE void apply(const Floats (&m)[4], Floats (&to)[2]) {
    to[0] = m[0] + m[1] + m[2], to[1] = m[1] - m[2] - m[3];
  }
  VSR_INLINE void apply(const Floats (&m)[6], Floats (&to)[4]) {
    Floats even_a = m[1] + m[2], odd_a = kA * (m[1] - m[2]), even_b = m[3] + m[4], odd_b = kB * (m[3] - m[4]);
    to[0] = m[0] + even_a + even_b, to[1] = odd_a + odd_b;
    to[2] = kA2 * even_a + kB2 * even_b, to[3] = kA2 * odd_a + kB2 * odd_b + m[5];
  }
};
struct OfGradients {  // A
  VSR_INLINE void apply(const Floats (&y)[2], Floats (&to)[4]) {
    to[0] = y[0], to[1] = y[0] + y[1], to[2] = y[0] - y[1], to[3] = -y[1];
  }
  VSR_INLINE void apply(const Floats (&y)[4], Floats (&to)[6]) {
    Floats even_a = y[0] + kA2 * y[2], odd_a = kA * (y[1] + kA2 * y[3]);
    Floats even_b = y[0] + kB2 * y[2], odd_b = kB * (y[1] + kB2 * y[3]);
    to[0] = y[0], to[5] = y[3];
    to[1] = even_a + odd_a, to[2] = even_a - odd_a, to[3] = even_b + odd_b, to[4] = even_b - odd_b;
  }
};
struct ToTaps {  // Gᵀ
  VSR_INLINE void apply(const Floats (&u)[4], Floats (&to)[3]) {
    Floats even = 0.5f * (u[1] + u[2]);
    to[0] = u[0] + even, to[1] = 0.5f * (u[1] - u[2]), to[2] = even + u[3];
  }
  VSR_INLINE void apply(const Floats (&u)[6], Floats (&to)[3]) {
    Floats even_a = kWeightA * (u[1] + u[2]), odd_a = kWeightA * kA * (u[1] - u[2]);
    Floats even_b = kWeightB * (u[3] + u[4]), odd_b = kWeightB * kB * (u[3] - u[4]);
    to[0] = kWeight0 * u[0] + even_a + even_b, to[1] = odd_a + odd_b, to[2] = kA2 * even_a + kB2 * even_b + u[5];
  }
};

// A line's transform along both axes of a tile.
template <typename Transform, int InH, int InW, int OutH, int OutW>
VSR_INLINE void transform(const Floats (&in)[InH][InW], Floats (&out)[OutH][OutW]) {
  Floats half[OutH][InW];
#pragma GCC unroll 6
  for (int j = 0; j < InW; j++) {
    Floats column[InH], to[OutH];
#pragma GCC unroll 6
    for (int i = 0; i < InH; i++) column[i] = in[i][j];
    Transform::apply(column, to);
#pragma GCC unroll 6
    for (int i = 0; i < OutH; i++) half[i][j] = to[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < OutH; i++) Transform::apply(half[i], out[i]);
}

// The pixels of one tile, from `before` pixels above and left of its first output; null outside the frame.
template <typename T, int H, int W>
struct Region {
  const T* pixels[H][W];

  Region(const Features<const T>& x, int64_t tile, int before) {
    const Tiles<const T> tiles(x);
    const int64_t n = tiles.image(tile), top = tiles.top(tile) - before, left = tiles.left(tile) - before;
    for (int i = 0; i < H; i++)
      for (int j = 0; j < W; j++) pixels[i][j] = x.has(top + i, left + j) ? x.at(n, top + i, left + j) : nullptr;
  }

  // The channels from c on; memory holds `count` more.
  inline __attribute__((always_inline)) void read(int64_t c, int64_t count, Floats (&to)[H][W]) const {
#pragma GCC unroll 6
    for (int i = 0; i < H; i++)
#pragma GCC unroll 6
      for (int j = 0; j < W; j++) to[i][j] = pixels[i][j] ? load_some(pixels[i][j] + c, count) : Floats{};
  }

  // The channels from c on, one after another in words.
  inline __attribute__((always_inline)) void read_words(int64_t c, int64_t count, Floats (&to)[1][H][W]) const {
    read(c, count, to[0]);
  }
  inline __attribute__((always_inline)) void read_words(int64_t c, int64_t count, Floats (&to)[2][H][W]) const {
#pragma GCC unroll 6
    for (int i = 0; i < H; i++)
#pragma GCC unroll 6
      for (int j = 0; j < W; j++) {
        Words both = pixels[i][j] ? load_some_pairs(pixels[i][j] + c, count) : Words{};
        to[0][i][j] = low(both), to[1][i][j] = high(both);
      }
  }
};

template <typename T>
static void transform_weights(const Weight& weight, const Sizes<T>& sizes, int64_t output,
                              typename Method<T>::Word* to) {
  constexpr int h = kReadH<T>, w = kReadW<T>, factors = Method<T>::kFactors;
  const int64_t first = output / sizes.panel * sizes.panel, width = sizes.width(first);
  to += first * kPoints<T> * sizes.words + output - first;
  for (int64_t word = 0; word < sizes.words; word++) {
    Floats points[kPoints<T>][factors];
    for (int factor = 0; factor < factors; factor++) {
      const int64_t c = word * factors + factor;
      float taps[9][kLanes] = {};
      for (int64_t o = output; c < weight.channels && o < output + kLanes && o < weight.outputs; o++)
        for (int k = 0; k < 9; k++) taps[k][o - output] = weight.tap(o, c, k);
      Floats read[3][3], made[h][w];
      for (int k = 0; k < 9; k++) read[k / 3][k % 3] = load(taps[k]);
      transform<OfTaps>(read, made);
      for (int point = 0; point < kPoints<T>; point++) points[point][factor] = made[point / w][point % w];
    }
    for (int point = 0; point < kPoints<T>; point++) store_words(to + (point * sizes.words + word) * width, points[point]);
  }
}

template <typename T>
static void convolve(const Sizes<T>& sizes, const Features<const T>& in, const typename Method<T>::Word* weights,
                     const float* bias, const Features<T>& out, int64_t first, int64_t count, T* pixels,
                     float* products) {
  typedef typename Method<T>::Word Word;
  constexpr int h = kReadH<T>, w = kReadW<T>, factors = Method<T>::kFactors;
  for (int64_t t = 0; t < count; t++) {
    const Region<T, h, w> region(in, first + t, 1);
    for (int64_t c = 0; c < in.channels; c += factors * kLanes) {
      Floats read[factors][h][w], words[kPoints<T>][factors];
      region.read_words(c, in.channels - c, read);
#pragma GCC unroll 2
      for (int factor = 0; factor < factors; factor++) {
        Floats points[h][w];
        transform<OfPixels>(read[factor], points);
#pragma GCC unroll 36
        for (int point = 0; point < kPoints<T>; point++) words[point][factor] = points[point / w][point % w];
      }
      Word* to = (Word*)(pixels + t * sizes.channels + c);
#pragma GCC unroll 36
      for (int point = 0; point < kPoints<T>; point++)
        store_words(to + point * (sizes.pixels_of_point() / factors), words[point]);
    }
  }
  const Tiles<T> tiles(out);
  for (int64_t panel = 0; panel < sizes.outputs; panel += sizes.panel) {
    const int64_t width = sizes.width(panel);
    const Word* taps = weights + panel * kPoints<T> * sizes.words;
    for (int point = 0; point < kPoints<T>; point++)
      multiply_panel<false>((const Word*)(pixels + point * sizes.pixels_of_point()), count, sizes.words, 1,
                            taps + point * sizes.words * width, width, sizes.words,
                            products + point * sizes.products_of_point(), width);
    for (int64_t t = 0; t < count; t++) {
      const int64_t n = tiles.image(first + t), top = tiles.top(first + t), left = tiles.left(first + t);
      for (int64_t o = 0; o < width && panel + o < out.channels; o += kLanes) {
        Floats points[h][w], made[Method<T>::kTileH][Method<T>::kTileW];
        const float* from = products + t * width + o;
#pragma GCC unroll 36
        for (int point = 0; point < kPoints<T>; point++)
          points[point / w][point % w] = load(from + point * sizes.products_of_point());
        transform<ToOutputs>(points, made);
        const Floats added = load(bias + panel + o);
#pragma GCC unroll 4
        for (int i = 0; i < Method<T>::kTileH; i++)
#pragma GCC unroll 4
          for (int j = 0; j < Method<T>::kTileW; j++)
            if (out.has(top + i, left + j))
              store_some(out.at(n, top + i, left + j) + panel + o, made[i][j] + added, out.channels - panel - o);
      }
    }
  }
}

// The points of a block's tiles, words of tiles side by side: (point, word, channel). What is read of a channel is added
// up in `sums` unless they are null.
template <typename Transform, typename T, int H, int W>
VSR_INLINE void transform_tiles(const Features<const T>& x, int64_t first, int64_t count, int before, int64_t channels,
                                int64_t size_of_point, T* to, float* sums) {
  typedef typename Method<T>::Word Word;
  constexpr int w = kReadW<T>, factors = Method<T>::kFactors;
  for (int64_t t = 0; t < count; t += factors) {
    // the last word's second tile may be that after the block, which then counts as zero
    const Region<T, H, W> regions[2] = {
        Region<T, H, W>(x, first + t, before),
        Region<T, H, W>(x, first + (t + factors - 1 < count ? t + factors - 1 : count - 1), before)};
    for (int64_t c = 0; c < x.channels; c += kLanes) {
      Floats words[kPoints<T>][factors];
#pragma GCC unroll 2
      for (int factor = 0; factor < factors; factor++) {
        Floats read[H][W] = {}, points[kReadH<T>][w];
        if (t + factor < count) regions[factor].read(c, x.channels - c, read);
        transform<Transform>(read, points);
#pragma GCC unroll 36
        for (int point = 0; point < kPoints<T>; point++) words[point][factor] = points[point / w][point % w];
        if (sums == nullptr) continue;
        Floats sum = {};
#pragma GCC unroll 6
        for (int i = 0; i < H; i++)
#pragma GCC unroll 6
          for (int j = 0; j < W; j++) sum += read[i][j];
        wide(sums + c) += sum;
      }
      Word* word = (Word*)to + t / factors * channels + c;
#pragma GCC unroll 36
      for (int point = 0; point < kPoints<T>; point++)
        store_words(word + point * (size_of_point / factors), words[point]);
    }
  }
}

template <typename T>
static void add_gradients(const Sizes<T>& sizes, const Features<const T>& in, const Features<const T>& grad_out,
                          int64_t first, int64_t count, T* pixels, T* gradients, float* grad_weights,
                          float* grad_bias) {
  typedef typename Method<T>::Word Word;
  transform_tiles<OfPixels, T, kReadH<T>, kReadW<T>>(in, first, count, 1, sizes.channels, sizes.pixels_of_point(),
                                                     pixels, nullptr);
  transform_tiles<OfGradients, T, Method<T>::kTileH, Method<T>::kTileW>(
      grad_out, first, count, 0, sizes.outputs, sizes.gradients_of_point(), gradients, grad_bias);
  const int64_t words = (count + Method<T>::kFactors - 1) / Method<T>::kFactors;
  for (int64_t panel = 0; panel < sizes.outputs; panel += sizes.panel) {
    const int64_t width = sizes.width(panel);
    float* to = grad_weights + panel * kPoints<T> * sizes.channels;
    for (int point = 0; point < kPoints<T>; point++)
      multiply_panel<true>((const Word*)(pixels + point * sizes.pixels_of_point()), sizes.channels, 1, sizes.channels,
                           (const Word*)(gradients + point * sizes.gradients_of_point()) + panel, sizes.outputs, words,
                           to + point * sizes.channels * width, width);
  }
}

template <typename T>
static void gradient_taps(const Sizes<T>& sizes, const float* points, int64_t parts, int64_t channel, int64_t outputs,
                          int64_t channels, float* to) {
  constexpr int h = kReadH<T>, w = kReadW<T>;
  const int64_t part = kPoints<T> * sizes.channels * sizes.outputs;
  for (int64_t output = 0; output < outputs; output += kLanes) {
    const int64_t panel = output / sizes.panel * sizes.panel, width = sizes.width(panel);
    const float* from = points + panel * kPoints<T> * sizes.channels + channel * width + output - panel;
    Floats sums[h][w], taps[3][3];
    for (int point = 0; point < kPoints<T>; point++) {
      Floats sum = load(from + point * sizes.channels * width);
      for (int64_t i = 1; i < parts; i++) sum += load(from + point * sizes.channels * width + i * part);
      sums[point / w][point % w] = sum;
    }
    transform<ToTaps>(sums, taps);
    for (int64_t o = output; o < outputs && o < output + kLanes; o++)
      for (int k = 0; k < 9; k++) to[(o * channels + channel) * 9 + k] = taps[k / 3][k % 3][o - output];
  }
}

template <typename T>
static Kernels<T> kernels() {
  return {kLanes, kRegisters, transform_weights<T>, convolve<T>, add_gradients<T>, gradient_taps<T>};
}
