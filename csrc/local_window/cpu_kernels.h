// The CPU kernels of the local window read, in plain C++ with vectors of a fixed size along x; cpu/instruction_sets.h
// includes this file once per instruction set.
//
// All are made of three steps at one vector of positions: scores of the window's candidates, weights from scores, sums
// of candidates. The candidates weighed together stay in the L1 cache. Every score is summed over the channels in the
// same order, in whichever kernel, so that exp(score - log_sum) in the backward pass is the forward pass's weight.

template <typename T>
struct Exponential {};
template <>
struct Exponential<float> {
  typedef int32_t Bits __attribute__((vector_size(VSR_VECTOR_BYTES)));
  static constexpr int kDegree = 7, kMantissa = 23, kBias = 127;
  static constexpr float kLowest = -87, kRound = 0x1.8p23f, kLog2High = 0x1.62e4p-1f, kLog2Low = 0x1.7f7d1cp-20f;
};
template <>
struct Exponential<double> {
  typedef int64_t Bits __attribute__((vector_size(VSR_VECTOR_BYTES)));
  static constexpr int kDegree = 13, kMantissa = 52, kBias = 1023;
  static constexpr double kLowest = -708, kRound = 0x1.8p52, kLog2High = 0x1.62e42fefp-1,
                          kLog2Low = 0x1.473de6af278edp-34;
};

// exp(x) for x below 80, within two units in the last place; 0 below the smallest normal number. With n the whole
// number next to x / ln 2, it is 2^n times the Taylor series of exp at x - n ln 2, which is within ± ln 2 / 2.
template <typename T>
VSR_INLINE typename Vector<T>::Wide exponential(typename Vector<T>::Wide x) {
  typedef typename Vector<T>::Wide Wide;
  typedef Exponential<T> E;
  typedef typename E::Bits Bits;
  auto vanishes = x < E::kLowest;
  x = vanishes ? Wide{} + E::kLowest : x;  // NaN stays NaN
  Wide rounded = x * T(1.44269504088896340736) + E::kRound;  // n in its lowest bits
  Wide n = rounded - E::kRound;
  Wide rest = x - n * E::kLog2High - n * E::kLog2Low;  // n * kLog2High is exact
  Wide series = Wide{} + 1;
#pragma GCC unroll 16
  for (int k = E::kDegree; k >= 1; k--) series = series * rest * (T(1) / k) + 1;
  Bits power = ((Bits)rounded << E::kMantissa) + ((Bits{} + E::kBias) << E::kMantissa);
  return vanishes ? Wide{} : series * (Wide)power;
}

template <int Rows, int Columns, typename T>
VSR_INLINE void score_block(const Tile<T>& one, const T* own, const Tile<T>& around, const T* other, T* scores,
                            int64_t score_row) {
  typedef typename Vector<T>::Wide Wide;
  Wide sum[Rows][Columns] = {};
  for (int64_t c = 0; c < one.channels; c++, own += one.plane(), other += around.plane()) {
    Wide value = wide(own);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; r++)
#pragma GCC unroll 16
      for (int k = 0; k < Columns; k++) sum[r][k] += value * wide(other + r * around.columns + k);
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; r++)
#pragma GCC unroll 16
    for (int k = 0; k < Columns; k++) wide(scores + r * score_row + k * Vector<T>::kLanes) = sum[r][k];
}

template <int Rows, int Columns, typename T>
static void score_rows(const Tile<T>& one, const T* own, const Tile<T>& around, const T* other, int64_t rows, T* scores,
                       int64_t score_row) {
  int64_t r = 0;
  for (; r + Rows <= rows; r += Rows)
    score_block<Rows, Columns>(one, own, around, other + r * around.columns, scores + r * score_row, score_row);
  for (; r < rows; r++)
    score_block<1, Columns>(one, own, around, other + r * around.columns, scores + r * score_row, score_row);
}

// scores[n] = ⟨one, around⟩ at a vector of positions and its candidates. As many are summed at once as registers hold.
template <typename T>
static void score(const Tiles<T>& t, const Tile<T>& one, const Tile<T>& around, const At& at, T* scores) {
  constexpr int64_t kLanes = Vector<T>::kLanes;
  const T *own = one.at(at.row, at.column), *other = around.at(at.first_row(), at.column);
  const int64_t rows = at.rows, columns = t.s.window_columns(), score_row = columns * kLanes;
  for (int64_t k = 0; k < columns;) {
    int64_t rest = columns - k;
    if (rest >= 7)
      score_rows<1, 7>(one, own, around, other + k, rows, scores + k * kLanes, score_row), k += 7;
    else if (rest >= 5)
      score_rows<2, 5>(one, own, around, other + k, rows, scores + k * kLanes, score_row), k += 5;
    else if (rest >= 3)
      score_rows<3, 3>(one, own, around, other + k, rows, scores + k * kLanes, score_row), k += 3;
    else
      score_rows<4, 1>(one, own, around, other + k, rows, scores + k * kLanes, score_row), k += 1;
  }
}

template <int Channels, typename T>
VSR_INLINE void sum_block(const T* weights, const Tile<T>& around, const T* other, int64_t rows, int64_t columns,
                          typename Vector<T>::Wide scale, T* sums, int64_t plane) {
  typedef typename Vector<T>::Wide Wide;
  Wide sum[Channels];
  const int64_t from = around.plane();
#pragma GCC unroll 16
  for (int c = 0; c < Channels; c++) sum[c] = wide(sums + c * plane) * scale;
  for (int64_t r = 0; r < rows; r++, other += around.columns)
    for (int64_t k = 0; k < columns; k++, weights += Vector<T>::kLanes) {
      Wide weight = wide(weights);
#pragma GCC unroll 16
      for (int c = 0; c < Channels; c++) sum[c] += weight * wide(other + k + c * from);
    }
#pragma GCC unroll 16
  for (int c = 0; c < Channels; c++) wide(sums + c * plane) = sum[c];
}

// total = total * scale + Σ weights[n] * around.
template <typename T>
static void add(const Tiles<T>& t, const T* weights, const Tile<T>& around, const At& at,
                typename Vector<T>::Wide scale, const Tile<T>& total) {
  const int64_t columns = t.s.window_columns(), from = around.plane(), to = total.plane();
  const T* other = around.at(at.first_row(), at.column);
  T* sums = total.at(at.row, at.column);
  int64_t c = 0;
  for (; c + 8 <= total.channels; c += 8, other += 8 * from, sums += 8 * to)
    sum_block<8>(weights, around, other, at.rows, columns, scale, sums, to);
  for (; c < total.channels; c++, other += from, sums += to)
    sum_block<1>(weights, around, other, at.rows, columns, scale, sums, to);
}

// scores[n] -= around, a tile with one channel.
template <typename T>
static void subtract(const Tiles<T>& t, const Tile<T>& around, const At& at, T* scores) {
  const T* other = around.at(at.first_row(), at.column);
  for (int64_t r = 0; r < at.rows; r++, other += around.columns)
    for (int64_t k = 0; k < t.s.window_columns(); k++, scores += Vector<T>::kLanes) wide(scores) -= wide(other + k);
}

// The number of scores: one vector for each candidate.
template <typename T>
VSR_INLINE int64_t numbers(const Tiles<T>& t, const At& at) {
  return at.rows * t.s.window_columns() * Vector<T>::kLanes;
}

template <typename T>
static void read(const Tiles<T>& t, const At& at) {
  typedef typename Vector<T>::Wide Wide;
  score(t, t.query, t.keys, at, t.scores);
  subtract(t, t.border, at, t.scores);
  Wide before = wide(t.largest.at(at.row, at.column)), largest = before;
  for (int64_t n = 0; n < numbers(t, at); n += Vector<T>::kLanes) {
    Wide score = wide(t.scores + n);
    largest = score > largest ? score : largest;
  }
  Wide scale = exponential<T>(before - largest), total = wide(t.total.at(at.row, at.column)) * scale;
  for (int64_t n = 0; n < numbers(t, at); n += Vector<T>::kLanes)
    total += wide(t.scores + n) = exponential<T>(wide(t.scores + n) - largest);
  wide(t.largest.at(at.row, at.column)) = largest;
  wide(t.total.at(at.row, at.column)) = total;
  add(t, t.scores, t.values, at, scale, t.read);
}

template <typename T>
static void query_gradient(const Tiles<T>& t, const At& at) {
  typedef typename Vector<T>::Wide Wide;
  score(t, t.query, t.keys, at, t.scores);
  subtract(t, t.border, at, t.scores);
  score(t, t.grad_read, t.values, at, t.grad_weights);
  Wide log_sum = wide(t.log_sum.at(at.row, at.column)), delta = wide(t.delta.at(at.row, at.column));
  for (int64_t n = 0; n < numbers(t, at); n += Vector<T>::kLanes)
    wide(t.scores + n) = exponential<T>(wide(t.scores + n) - log_sum) * (wide(t.grad_weights + n) - delta);
  add(t, t.scores, t.keys, at, Wide{} + 1, t.grad_query);
}

// A position is a candidate of exactly those in the window around it, so gradients of keys and values are gathered.
template <typename T>
static void frame_gradients(const Tiles<T>& t, const At& at) {
  typedef typename Vector<T>::Wide Wide;
  score(t, t.keys, t.query, at, t.scores);
  subtract(t, t.log_sum, at, t.scores);
  for (int64_t n = 0; n < numbers(t, at); n += Vector<T>::kLanes)
    wide(t.scores + n) = exponential<T>(wide(t.scores + n));
  if (t.grad_values.data) add(t, t.scores, t.grad_read, at, Wide{} + 1, t.grad_values);
  if (!t.grad_keys.data) return;
  score(t, t.values, t.grad_read, at, t.grad_weights);
  subtract(t, t.delta, at, t.grad_weights);
  for (int64_t n = 0; n < numbers(t, at); n += Vector<T>::kLanes) wide(t.scores + n) *= wide(t.grad_weights + n);
  add(t, t.scores, t.query, at, Wide{} + 1, t.grad_keys);
}

template <typename T>
static Kernels<T> kernels() {
  return {Vector<T>::kLanes, read<T>, query_gradient<T>, frame_gradients<T>};
}
