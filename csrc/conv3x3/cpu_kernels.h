// The kernels of the 3×3 convolution. cpu/instruction_sets.h includes this file once per instruction set.

#include "../cpu/products.h"

// Winograd's transforms of a line, at the points 0, ±1 and infinity (M = 2), and ±2 as well (M = 4): F(2, 3) and F(4, 3)
// of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
struct OfPixels {  // Bᵀ
  VSR_INLINE void apply(const Floats (&d)[4], Floats (&to)[4]) {
    to[0] = d[0] - d[2], to[1] = d[1] + d[2], to[2] = d[2] - d[1], to[3] = d[1] - d[3];
  }
  VSR_INLINE void apply(const Floats (&d)[6], Floats (&to)[6]) {
    Floats a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
    to[0] = 4 * d[0] - 5 * d[2] + d[4], to[5] = 4 * d[1] - 5 * d[3] + d[5];
    to[1] = a + b, to[2] = a - b, to[3] = c + e, to[4] = c - e;
  }
};
struct OfTaps {  // G
  VSR_INLINE void apply(const Floats (&g)[3], Floats (&to)[4]) {
    Floats a = 0.5f * (g[0] + g[2]), b = 0.5f * g[1];
    to[0] = g[0], to[1] = a + b, to[2] = a - b, to[3] = g[2];
  }
  VSR_INLINE void apply(const Floats (&g)[3], Floats (&to)[6]) {
    Floats a = (g[0] + g[2]) * (-1.f / 6), b = g[1] * (-1.f / 6);
    Floats c = g[0] * (1.f / 24) + g[2] * (1.f / 6), e = g[1] * (1.f / 12);
    to[0] = 0.25f * g[0], to[5] = g[2];
    to[1] = a + b, to[2] = a - b, to[3] = c + e, to[4] = c - e;
  }
};
struct ToOutputs {  // Aᵀ
  VSR_INLINE void apply(const Floats (&m)[4], Floats (&to)[2]) {
    to[0] = m[0] + m[1] + m[2], to[1] = m[1] - m[2] - m[3];
  }
  VSR_INLINE void apply(const Floats (&m)[6], Floats (&to)[4]) {
    Floats a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    to[0] = m[0] + a + c, to[1] = b + 2 * e, to[2] = a + 4 * c, to[3] = b + 8 * e + m[5];
  }
};
struct OfGradients {  // A
  VSR_INLINE void apply(const Floats (&y)[2], Floats (&to)[4]) {
    to[0] = y[0], to[1] = y[0] + y[1], to[2] = y[0] - y[1], to[3] = -y[1];
  }
  VSR_INLINE void apply(const Floats (&y)[4], Floats (&to)[6]) {
    Floats a = y[0] + y[2], b = y[1] + y[3], c = y[0] + 4 * y[2], e = 2 * y[1] + 8 * y[3];
    to[0] = y[0], to[5] = y[3];
    to[1] = a + b, to[2] = a - b, to[3] = c + e, to[4] = c - e;
  }
};
struct ToTaps {  // Gᵀ
  VSR_INLINE void apply(const Floats (&u)[4], Floats (&to)[3]) {
    Floats a = 0.5f * (u[1] + u[2]);
    to[0] = u[0] + a, to[1] = 0.5f * (u[1] - u[2]), to[2] = a + u[3];
  }
  VSR_INLINE void apply(const Floats (&u)[6], Floats (&to)[3]) {
    Floats a = (u[1] + u[2]) * (-1.f / 6), c = u[3] + u[4];
    to[0] = 0.25f * u[0] + a + c * (1.f / 24), to[2] = a + c * (1.f / 6) + u[5];
    to[1] = (u[1] - u[2]) * (-1.f / 6) + (u[3] - u[4]) * (1.f / 12);
  }
};

// A line's transform along both axes of a square.
template <typename Transform, int In, int Out>
VSR_INLINE void transform(const Floats (&in)[In][In], Floats (&out)[Out][Out]) {
  Floats half[Out][In];
#pragma GCC unroll 6
  for (int j = 0; j < In; j++) {
    Floats column[In], to[Out];
#pragma GCC unroll 6
    for (int i = 0; i < In; i++) column[i] = in[i][j];
    Transform::apply(column, to);
#pragma GCC unroll 6
    for (int i = 0; i < Out; i++) half[i][j] = to[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Out; i++) Transform::apply(half[i], out[i]);
}

// A square of pixels of one tile, from `before` pixels above and left of its first output; null outside the frame.
template <typename T, int Side>
struct Square {
  const T* pixels[Side][Side];

  Square(const Features<const T>& x, int64_t tile, int before) {
    const Tiles<const T> tiles(x);
    const int64_t n = tile / (tiles.rows * tiles.columns), at = tile % (tiles.rows * tiles.columns);
    const int64_t top = at / tiles.columns * Method<T>::kTile - before, left = at % tiles.columns * Method<T>::kTile - before;
    for (int i = 0; i < Side; i++)
      for (int j = 0; j < Side; j++) pixels[i][j] = x.has(top + i, left + j) ? x.at(n, top + i, left + j) : nullptr;
  }

  // The channels from c on; memory holds `count` more.
  inline __attribute__((always_inline)) void read(int64_t c, int64_t count, Floats (&to)[Side][Side]) const {
#pragma GCC unroll 6
    for (int i = 0; i < Side; i++)
#pragma GCC unroll 6
      for (int j = 0; j < Side; j++) to[i][j] = pixels[i][j] ? load_some(pixels[i][j] + c, count) : Floats{};
  }

  // The channels from c on, one after another in words.
  inline __attribute__((always_inline)) void read_words(int64_t c, int64_t count, Floats (&to)[1][Side][Side]) const {
    read(c, count, to[0]);
  }
  inline __attribute__((always_inline)) void read_words(int64_t c, int64_t count, Floats (&to)[2][Side][Side]) const {
#pragma GCC unroll 6
    for (int i = 0; i < Side; i++)
#pragma GCC unroll 6
      for (int j = 0; j < Side; j++) {
        Words both = pixels[i][j] ? load_some_pairs(pixels[i][j] + c, count) : Words{};
        to[0][i][j] = low(both), to[1][i][j] = high(both);
      }
  }
};

template <typename T>
static void transform_weights(const Weight& weight, const Sizes<T>& sizes, int64_t output,
                              typename Method<T>::Word* to) {
  constexpr int side = kSide<T>, factors = Method<T>::kFactors;
  const int64_t first = output / sizes.panel * sizes.panel, width = sizes.width(first);
  to += first * kPoints<T> * sizes.words + output - first;
  for (int64_t word = 0; word < sizes.words; word++) {
    Floats points[kPoints<T>][factors];
    for (int factor = 0; factor < factors; factor++) {
      const int64_t c = word * factors + factor;
      float taps[9][kLanes] = {};
      for (int64_t o = output; c < weight.channels && o < output + kLanes && o < weight.outputs; o++)
        for (int k = 0; k < 9; k++) taps[k][o - output] = weight.tap(o, c, k);
      Floats columns[3][3], half[side][3];
      for (int k = 0; k < 9; k++) columns[k % 3][k / 3] = load(taps[k]);
      for (int j = 0; j < 3; j++) {
        Floats to[side];
        OfTaps::apply(columns[j], to);
        for (int i = 0; i < side; i++) half[i][j] = to[i];
      }
      for (int i = 0; i < side; i++) {
        Floats to[side];
        OfTaps::apply(half[i], to);
        for (int j = 0; j < side; j++) points[i * side + j][factor] = to[j];
      }
    }
    for (int point = 0; point < kPoints<T>; point++) store_words(to + (point * sizes.words + word) * width, points[point]);
  }
}

template <typename T>
static void convolve(const Sizes<T>& sizes, const Features<const T>& in, const typename Method<T>::Word* weights,
                     const float* bias, const Features<T>& out, int64_t first, int64_t count, T* pixels,
                     float* products) {
  typedef typename Method<T>::Word Word;
  constexpr int side = kSide<T>, m = Method<T>::kTile, factors = Method<T>::kFactors;
  for (int64_t t = 0; t < count; t++) {
    const Square<T, side> square(in, first + t, 1);
    for (int64_t c = 0; c < in.channels; c += factors * kLanes) {
      Floats read[factors][side][side], words[kPoints<T>][factors];
      square.read_words(c, in.channels - c, read);
#pragma GCC unroll 2
      for (int factor = 0; factor < factors; factor++) {
        Floats points[side][side];
        transform<OfPixels>(read[factor], points);
#pragma GCC unroll 36
        for (int point = 0; point < kPoints<T>; point++) words[point][factor] = points[point / side][point % side];
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
      const int64_t n = (first + t) / (tiles.rows * tiles.columns), at = (first + t) % (tiles.rows * tiles.columns);
      const int64_t top = at / tiles.columns * m, left = at % tiles.columns * m;
      for (int64_t o = 0; o < width && panel + o < out.channels; o += kLanes) {
        Floats points[side][side], made[m][m];
        const float* from = products + t * width + o;
#pragma GCC unroll 36
        for (int point = 0; point < kPoints<T>; point++)
          points[point / side][point % side] = load(from + point * sizes.products_of_point());
        transform<ToOutputs>(points, made);
        const Floats added = load(bias + panel + o);
#pragma GCC unroll 4
        for (int i = 0; i < m; i++)
#pragma GCC unroll 4
          for (int j = 0; j < m; j++)
            if (out.has(top + i, left + j))
              store_some(out.at(n, top + i, left + j) + panel + o, made[i][j] + added, out.channels - panel - o);
      }
    }
  }
}

// The points of a block's tiles, words of tiles side by side: (point, word, channel).
template <typename Transform, typename T, int Side>
VSR_INLINE void transform_tiles(const Features<const T>& x, int64_t first, int64_t count, int before, int64_t channels,
                                int64_t size_of_point, T* to, float* sums) {
  typedef typename Method<T>::Word Word;
  constexpr int side = kSide<T>, factors = Method<T>::kFactors;
  for (int64_t t = 0; t < count; t += factors) {
    // the last word's second tile may be that after the block, which then counts as zero
    const Square<T, Side> squares[2] = {Square<T, Side>(x, first + t, before),
                                        Square<T, Side>(x, first + std::min(t + factors - 1, count - 1), before)};
    for (int64_t c = 0; c < x.channels; c += kLanes) {
      Floats words[kPoints<T>][factors];
#pragma GCC unroll 2
      for (int factor = 0; factor < factors; factor++) {
        Floats read[Side][Side] = {}, points[side][side];
        if (t + factor < count) squares[factor].read(c, x.channels - c, read);
        transform<Transform>(read, points);
        if (sums != nullptr) wide(sums + c) += points[1][1];
#pragma GCC unroll 36
        for (int point = 0; point < kPoints<T>; point++) words[point][factor] = points[point / side][point % side];
      }
      Word* word = (Word*)to + t / factors * channels + c;
#pragma GCC unroll 36
      for (int point = 0; point < kPoints<T>; point++) store_words(word + point * (size_of_point / factors), words[point]);
    }
  }
}

template <typename T>
static void add_gradients(const Sizes<T>& sizes, const Features<const T>& in, const Features<const T>& grad_out,
                          int64_t first, int64_t count, T* pixels, T* gradients, float* grad_weights,
                          float* grad_bias) {
  typedef typename Method<T>::Word Word;
  transform_tiles<OfPixels, T, kSide<T>>(in, first, count, 1, sizes.channels, sizes.pixels_of_point(), pixels, nullptr);
  // the sum of a tile's gradients is their value at the point (1, 1)
  transform_tiles<OfGradients, T, Method<T>::kTile>(grad_out, first, count, 0, sizes.outputs,
                                                    sizes.gradients_of_point(), gradients, grad_bias);
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
  constexpr int side = kSide<T>;
  const int64_t part = kPoints<T> * sizes.channels * sizes.outputs;
  for (int64_t output = 0; output < outputs; output += kLanes) {
    const int64_t panel = output / sizes.panel * sizes.panel, width = sizes.width(panel);
    const float* from = points + panel * kPoints<T> * sizes.channels + channel * width + output - panel;
    Floats sums[side][side], taps[3][3];
    for (int point = 0; point < kPoints<T>; point++) {
      Floats sum = load(from + point * sizes.channels * width);
      for (int64_t i = 1; i < parts; i++) sum += load(from + point * sizes.channels * width + i * part);
      sums[point / side][point % side] = sum;
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
