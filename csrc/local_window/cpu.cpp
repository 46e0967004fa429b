// CPU local window read: copies tiles of the maps, shares blocks of positions among the threads, and picks the kernels
// for this machine.
//
// A thread takes a block of positions and goes through the frames; nothing larger than a block's tiles is stored. The
// backward pass goes over the blocks twice, once as queries and once as candidates, so that every gradient is written
// by one thread: no atomics, and results do not depend on the number of threads. Everything is computed in fp32 (fp64
// for fp64).
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <tuple>
#include <vector>

#include "../cpu/choice.h"
#include "../cpu/memory.h"
#include "cpu_tiles.h"

namespace vsr::local_window {

#define VSR_KERNELS "../local_window/cpu_kernels.h"
#include "../cpu/instruction_sets.h"

namespace {

namespace st = torch::stable;
using Optional = std::optional<Tensor>;

// A block's size. Wide, because channels are far apart in memory: rows of 32 positions take up to twice as long.
// A few rows are enough to share the margins.
constexpr int64_t kMostColumns = 320, kMostRows = 6;

// Users see the messages of vsr/ops; these checks keep a direct call of the op from reading out of bounds.
Shape make_shape(const Tensor& query, const Tensor& keys, const Optional& values, const Optional& valid,
                 int64_t window) {
  STD_TORCH_CHECK(query.dim() == 4 && keys.dim() == 5, "query must have 4 dimensions, keys 5");
  STD_TORCH_CHECK(window > 0 && window % 2 == 1, "window must be odd");
  Shape s{};
  s.b = keys.size(0), s.t = keys.size(1), s.c = keys.size(2), s.h = keys.size(3), s.w = keys.size(4), s.e = s.c;
  STD_TORCH_CHECK(query.size(0) == s.b && query.size(1) == s.c && query.size(2) == s.h && query.size(3) == s.w &&
                      query.scalar_type() == keys.scalar_type(),
                  "query is like one of the keys");
  if (values) {
    STD_TORCH_CHECK(values->dim() == 5 && values->size(0) == s.b && values->size(1) == s.t && values->size(3) == s.h &&
                        values->size(4) == s.w && values->scalar_type() == keys.scalar_type(),
                    "values are like the keys up to their channels");
    s.e = values->size(2);
  }
  if (valid) {
    STD_TORCH_CHECK(valid->dim() == 2 && valid->size(0) == s.b && valid->size(1) == s.t &&
                        valid->scalar_type() == ScalarType::Bool,
                    "valid is a truth value per frame");
  }
  s.up = std::max<int64_t>(0, std::min(window / 2, s.h - 1));
  s.left = std::max<int64_t>(0, std::min(window / 2, s.w - 1));
  return s;
}

void check_saved(const Shape& s, const Tensor& grad_read, const Tensor& query, const Tensor& log_sum,
                 const Tensor& delta, const std::vector<bool>& needed) {
  STD_TORCH_CHECK(needed.size() == 3, "needed must have 3 entries");
  STD_TORCH_CHECK(grad_read.dim() == 4 && grad_read.size(0) == s.b && grad_read.size(1) == s.e &&
                      grad_read.size(2) == s.h && grad_read.size(3) == s.w &&
                      grad_read.scalar_type() == query.scalar_type(),
                  "grad_read is like the read");
  bool is_double = query.scalar_type() == ScalarType::Double;
  for (const Tensor* map : {&log_sum, &delta})
    STD_TORCH_CHECK(map->dim() == 3 && map->size(0) == s.b && map->size(1) == s.h && map->size(2) == s.w &&
                        map->scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float),
                    "log_sum and delta have a number per position");
}

// A tensor (b, h, w), (b, c, h, w) or (b, t, c, h, w) of any strides.
struct Maps {
  Tensor tensor;
  void* start;
  int64_t image, frame = 0, channel = 0, row, column;

  explicit Maps(const Tensor& x) : tensor(x), start(x.data_ptr()) {
    int64_t d = x.dim();
    image = x.stride(0), row = x.stride(d - 2), column = x.stride(d - 1);
    if (d > 3) channel = x.stride(d - 3);
    if (d > 4) frame = x.stride(1);
  }
  template <typename T>
  T* at(int64_t i, int64_t t, int64_t c, int64_t y, int64_t x) const {
    return static_cast<T*>(start) + i * image + t * frame + c * channel + y * row + x * column;
  }
};

// Part of an image: the positions that a thread works on at a time.
struct Block {
  int64_t image, y, x, rows, columns;
};

// An image cut into blocks.
class Blocks {
 public:
  int64_t rows, columns;  // of a block; the latter a multiple of every vector's length, so that tiles can be as wide

  explicit Blocks(const Shape& s) : rows(std::min(kMostRows, s.h)), s_(s) {
    int64_t across = (s.w + kMostColumns - 1) / kMostColumns;
    columns = ((s.w + across - 1) / across + kLongestVector - 1) / kLongestVector * kLongestVector;
    across_ = (s.w + columns - 1) / columns, down_ = (s.h + rows - 1) / rows;
  }
  int64_t count() const { return s_.b * down_ * across_; }
  Block operator[](int64_t i) const {
    int64_t y = i / across_ % down_ * rows, x = i % across_ * columns;
    return {i / across_ / down_, y, x, std::min(rows, s_.h - y), std::min(columns, s_.w - x)};
  }

 private:
  Shape s_;
  int64_t across_, down_;
};

// A thread's tiles.
template <typename T>
class Memory {
 public:
  Memory(const Shape& s, const Blocks& blocks) : s_(s), rows_(blocks.rows), columns_(blocks.columns) {}
  Tile<T> block(int64_t channels) { return tile(channels, 0, 0); }
  Tile<T> around(int64_t channels) { return tile(channels, s_.up, s_.left); }
  T* scores() { return take(kLongestVector * std::max(kTogether, s_.window_columns())); }

 private:
  Tile<T> tile(int64_t channels, int64_t up, int64_t left) {
    int64_t rows = rows_ + 2 * up, columns = columns_ + 2 * left;
    return {take(channels * rows * columns), channels, rows, columns, up, left};
  }
  T* take(int64_t size) {
    buffers_.push_back(std::make_unique<Buffer<T>>(size));
    return buffers_.back()->get();
  }
  Shape s_;
  int64_t rows_, columns_;
  std::vector<std::unique_ptr<Buffer<T>>> buffers_;
};

// Copies a block of one frame and the margin around it, from a map of any type; what is beyond the frame is `outside`.
template <typename T>
void load(const Maps& from, const Shape& s, const Block& block, int64_t frame, T outside, const Tile<T>& to) {
  const int64_t y = block.y - to.up, x = block.x - to.left, rows = block.rows + 2 * to.up;
  const int64_t first = std::max<int64_t>(0, -x), last = std::min(to.columns, s.w - x);
  with_type(from.tensor.scalar_type(), [&](auto tag) {
    using From = decltype(tag);
    for (int64_t c = 0; c < to.channels; c++)
      for (int64_t row = 0; row < rows; row++) {
        T* out = to.data + c * to.plane() + row * to.columns;
        const bool inside = y + row >= 0 && y + row < s.h;
        std::fill(out, out + (inside ? first : to.columns), outside);
        if (!inside) continue;
        const From* in = from.at<const From>(block.image, frame, c, y + row, x + first) - first * from.column;
        if (from.column == 1)
          std::copy(in + first, in + last, out + first);
        else
          for (int64_t i = first; i < last; i++) out[i] = static_cast<T>(in[i * from.column]);
        std::fill(out + last, out + to.columns, outside);
      }
  });
}

template <typename T>
void store(const Tile<T>& from, const Block& block, int64_t frame, const Maps& to) {
  with_type(to.tensor.scalar_type(), [&](auto tag) {
    using To = decltype(tag);
    for (int64_t c = 0; c < from.channels; c++)
      for (int64_t row = 0; row < block.rows; row++) {
        const T* in = from.data + c * from.plane() + row * from.columns;
        To* out = to.at<To>(block.image, frame, c, block.y + row, block.x);
        for (int64_t i = 0; i < block.columns; i++) out[i * to.column] = static_cast<To>(in[i]);
      }
  });
}

template <typename T>
void fill(const Tile<T>& tile, T value) {
  std::fill_n(tile.data, tile.channels * tile.plane(), value);
}

// 0 inside the frame, infinite outside.
template <typename T>
void load_border(const Shape& s, const Block& block, const Tile<T>& to) {
  for (int64_t row = 0; row < to.rows; row++)
    for (int64_t column = 0; column < to.columns; column++) {
      int64_t y = block.y + row - to.up, x = block.x + column - to.left;
      *to.at(row, column) = y >= 0 && y < s.h && x >= 0 && x < s.w ? T(0) : std::numeric_limits<T>::infinity();
    }
}

// Calls kernel for every vector of positions and every few rows of its window.
template <typename T>
void run(void (*kernel)(const Tiles<T>&, const At&), int64_t lanes, const Block& block, const Tiles<T>& tiles) {
  const int64_t window = tiles.s.window_rows(), together = tiles.s.rows_together();
  for (int64_t row = 0; row < block.rows; row++)
    for (int64_t column = 0; column < block.columns; column += lanes)
      for (int64_t first = 0; first < window; first += together)
        kernel(tiles, {row, column, first, std::min(together, window - first)});
}

// Whether the frames take part: (b, t).
class Valid {
 public:
  Valid(const Optional& valid, const Shape& s) : given_(valid), t_(s.t) {
    if (given_) given_ = st::contiguous(*given_);
  }
  bool operator()(int64_t image, int64_t frame) const {
    return !given_ || static_cast<const bool*>(given_->data_ptr())[image * t_ + frame];
  }

 private:
  Optional given_;
  int64_t t_;
};

template <typename T>
std::tuple<Tensor, Tensor> forward(const Shape& s, const Tensor& query, const Tensor& keys, const Optional& values,
                                   const Optional& valid) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  Tensor read = empty_as(query, {s.b, s.e, s.h, s.w}, query.scalar_type());
  Tensor log_sum = st::empty({s.b, s.h, s.w}, dtype_of<T>());
  if (log_sum.numel() == 0) return {read, log_sum};
  const Maps from_query(query), from_keys(keys), from_values(values ? *values : keys), to_read(read), to_sum(log_sum);
  const Valid is_valid(valid, s);
  const Kernels<T> kernels = choose_kernels<T>();
  const Blocks blocks(s);
  st::parallel_for(0, blocks.count(), 1, [&](int64_t begin, int64_t end) {
    Memory<T> memory(s, blocks);
    Tiles<T> t{s};
    t.query = memory.block(s.c), t.keys = memory.around(s.c), t.values = values ? memory.around(s.e) : t.keys;
    t.border = memory.around(1), t.largest = memory.block(1), t.total = memory.block(1), t.read = memory.block(s.e);
    t.scores = memory.scores();
    for (int64_t i = begin; i < end; i++) {
      const Block block = blocks[i];
      load(from_query, s, block, 0, T(0), t.query);
      load_border(s, block, t.border);
      fill(t.largest, std::numeric_limits<T>::lowest()), fill(t.total, T(0)), fill(t.read, T(0));
      for (int64_t frame = 0; frame < s.t; frame++) {
        if (!is_valid(block.image, frame)) continue;
        load(from_keys, s, block, frame, T(0), t.keys);
        if (values) load(from_values, s, block, frame, T(0), t.values);
        run(kernels.read, kernels.lanes, block, t);
      }
      for (int64_t k = 0; k < t.total.plane(); k++) {
        T& total = t.total.data[k];
        t.largest.data[k] = total == 0 ? kInfinity : t.largest.data[k] + std::log(total);
        total = total == 0 ? T(0) : 1 / total;
      }
      for (int64_t k = 0, c = 0; c < s.e; c++)
        for (int64_t x = 0; x < t.total.plane(); x++, k++) t.read.data[k] *= t.total.data[x];
      store(t.read, block, 0, to_read);
      store(t.largest, block, 0, to_sum);
    }
  });
  return {read, log_sum};
}

// What the backward pass is given.
struct Saved {
  Maps grad_read, query, keys, values, log_sum, delta;
  bool own_values;
};

template <typename T>
void query_gradient(const Shape& s, const Saved& from, const Valid& is_valid, const Maps& to) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const Kernels<T> kernels = choose_kernels<T>();
  const Blocks blocks(s);
  st::parallel_for(0, blocks.count(), 1, [&](int64_t begin, int64_t end) {
    Memory<T> memory(s, blocks);
    Tiles<T> t{s};
    t.query = memory.block(s.c), t.grad_read = memory.block(s.e), t.grad_query = memory.block(s.c);
    t.log_sum = memory.block(1), t.delta = memory.block(1), t.border = memory.around(1);
    t.keys = memory.around(s.c), t.values = from.own_values ? memory.around(s.e) : t.keys;
    t.scores = memory.scores(), t.grad_weights = memory.scores();
    for (int64_t i = begin; i < end; i++) {
      const Block block = blocks[i];
      load(from.query, s, block, 0, T(0), t.query);
      load(from.grad_read, s, block, 0, T(0), t.grad_read);
      load(from.log_sum, s, block, 0, kInfinity, t.log_sum);
      load(from.delta, s, block, 0, T(0), t.delta);
      load_border(s, block, t.border);
      fill(t.grad_query, T(0));
      for (int64_t frame = 0; frame < s.t; frame++) {
        if (!is_valid(block.image, frame)) continue;
        load(from.keys, s, block, frame, T(0), t.keys);
        if (from.own_values) load(from.values, s, block, frame, T(0), t.values);
        run(kernels.query_gradient, kernels.lanes, block, t);
      }
      store(t.grad_query, block, 0, to);
    }
  });
}

template <typename T>
void frame_gradients(const Shape& s, const Saved& from, const Valid& is_valid, const Maps* to_keys,
                     const Maps* to_values) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const Kernels<T> kernels = choose_kernels<T>();
  const Blocks blocks(s);
  st::parallel_for(0, blocks.count(), 1, [&](int64_t begin, int64_t end) {
    Memory<T> memory(s, blocks);
    Tiles<T> t{s};
    t.query = memory.around(s.c), t.grad_read = memory.around(s.e);
    t.log_sum = memory.around(1), t.delta = memory.around(1);
    t.keys = memory.block(s.c), t.values = from.own_values ? memory.block(s.e) : t.keys;
    if (to_keys) t.grad_keys = memory.block(s.c);
    t.grad_values = !from.own_values ? t.grad_keys : to_values ? memory.block(s.e) : Tile<T>{};
    t.scores = memory.scores(), t.grad_weights = memory.scores();
    for (int64_t i = begin; i < end; i++) {
      const Block block = blocks[i];
      load(from.query, s, block, 0, T(0), t.query);
      load(from.grad_read, s, block, 0, T(0), t.grad_read);
      load(from.log_sum, s, block, 0, kInfinity, t.log_sum);
      load(from.delta, s, block, 0, T(0), t.delta);
      for (int64_t frame = 0; frame < s.t; frame++) {
        fill(t.grad_keys, T(0)), fill(t.grad_values, T(0));
        if (is_valid(block.image, frame)) {
          load(from.keys, s, block, frame, T(0), t.keys);
          if (from.own_values) load(from.values, s, block, frame, T(0), t.values);
          run(kernels.frame_gradients, kernels.lanes, block, t);
        }
        if (to_keys) store(t.grad_keys, block, frame, *to_keys);
        if (to_values) store(t.grad_values, block, frame, *to_values);
      }
    }
  });
}

std::tuple<Tensor, Tensor> local_window_read(const Tensor& query, const Tensor& keys, Optional values, Optional valid,
                                             int64_t window) {
  Shape s = make_shape(query, keys, values, valid, window);
  if (query.scalar_type() == ScalarType::Double) return forward<double>(s, query, keys, values, valid);
  return forward<float>(s, query, keys, values, valid);
}

std::tuple<Tensor, Tensor, Tensor> local_window_read_backward(const Tensor& grad_read, const Tensor& query,
                                                              const Tensor& keys, Optional values, Optional valid,
                                                              const Tensor& log_sum, const Tensor& delta,
                                                              int64_t window, std::vector<bool> needed) {
  Shape s = make_shape(query, keys, values, valid, window);
  check_saved(s, grad_read, query, log_sum, delta, needed);
  bool need_values = needed[2] && values.has_value();
  Tensor grad_query = needed[0] ? st::empty_like(query) : no_gradient(query);
  Tensor grad_keys = needed[1] ? st::empty_like(keys) : no_gradient(keys);
  Tensor grad_values = need_values ? st::empty_like(*values) : no_gradient(keys);
  if (s.b * s.h * s.w == 0) return {grad_query, grad_keys, grad_values};
  const Saved from{Maps(grad_read), Maps(query), Maps(keys), Maps(values ? *values : keys),
                   Maps(log_sum),   Maps(delta), values.has_value()};
  const Valid is_valid(valid, s);
  auto run = [&](auto zero) {
    using T = decltype(zero);
    if (needed[0]) query_gradient<T>(s, from, is_valid, Maps(grad_query));
    if (!needed[1] && !need_values) return;
    const Maps to_keys(grad_keys), to_values(grad_values);
    frame_gradients<T>(s, from, is_valid, needed[1] ? &to_keys : nullptr, need_values ? &to_values : nullptr);
  };
  query.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return {grad_query, grad_keys, grad_values};
}

}  // namespace
}  // namespace vsr::local_window

STABLE_TORCH_LIBRARY_IMPL(vsr, CPU, m) {
  m.impl("local_window_read", TORCH_BOX(&vsr::local_window::local_window_read));
  m.impl("local_window_read_backward", TORCH_BOX(&vsr::local_window::local_window_read_backward));
}
