// What the CPU kernels of the local window read work on: tiles, dense copies of a part of a map.
#pragma once

#include <cstdint>

namespace vsr::local_window {

constexpr int64_t kLongestVector = 16;  // numbers
constexpr int64_t kTogether = 32;  // candidates that are weighed together, unless a row of the window has more

struct Shape {
  int64_t b, t, c, e, h, w;  // e: channels of the values
  int64_t up, left;          // how far the window reaches from its middle; not beyond the frame's size

  int64_t window_rows() const { return 2 * up + 1; }
  int64_t window_columns() const { return 2 * left + 1; }
  int64_t rows_together() const {
    int64_t rows = kTogether / window_columns();
    return rows < 1 ? 1 : rows < window_rows() ? rows : window_rows();
  }
};

// (channels, rows, columns), dense: a block of positions and the margin around it, `up` rows and `left` columns wide.
template <typename T>
struct Tile {
  T* data = nullptr;
  int64_t channels = 0, rows = 0, columns = 0, up = 0, left = 0;

  int64_t plane() const { return rows * columns; }
  T* at(int64_t row, int64_t column) const { return data + row * columns + column; }
};

// The tiles of one frame and one block of positions. Some are of the block itself, some also have the margin around it
// that its window reaches; outside the frame a margin is 0, in `border` and `log_sum` infinite. Where the keys are read,
// `values` is the tile `keys` and `grad_values` the tile `grad_keys`.
template <typename T>
struct Tiles {
  Shape s;
  Tile<T> query, keys, values, grad_read;
  Tile<T> border;          // with a margin: 0 inside the frame
  Tile<T> largest, total;  // score so far, and Σ exp(score - largest)
  Tile<T> log_sum, delta;  // log Σ exp(score), and ⟨grad_read, read⟩
  Tile<T> read, grad_query, grad_keys, grad_values;
  T *scores, *grad_weights;  // of the candidates weighed together, a vector each
};

// One vector of positions, from (row, column) of a block on, and the window's rows first … first + rows.
struct At {
  int64_t row, column, first, rows;
  int64_t first_row() const { return row + first; }  // in a tile with margin
};

// The kernels compiled for one instruction set; each adds a frame's part. "Around" says which tiles have a margin.
template <typename T>
struct Kernels {
  int64_t lanes;                                          // positions in a vector
  void (*read)(const Tiles<T>&, const At&);               // keys, values, border around
  void (*query_gradient)(const Tiles<T>&, const At&);     // keys, values, border around
  void (*frame_gradients)(const Tiles<T>&, const At&);    // query, grad_read, log_sum, delta around; fills what has data
};

}  // namespace vsr::local_window
