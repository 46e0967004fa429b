// The CPU kernels, in plain C++ with vectors of a fixed size. cpu/instruction_sets.h includes this file once per
// instruction set.
//
// A block of positions goes tap by tap: sample the columns of all groups (positions x channels, in L1), then add
// columns x weight to the block's output. Nothing larger than a block is ever stored.

#include "cpu_sampling.h"

// Rows of a matrix product that stay in registers.
constexpr int kRows = VSR_VECTOR_BYTES == 64 ? 12 : VSR_VECTOR_BYTES == 32 ? 6 : 4;

// c (Rows x 16) = a (Rows x depth) b (depth x 16), added to c when Add.
template <int Rows, bool Add, typename T>
VSR_INLINE void panel_rows(const T* a, int64_t a_row, int64_t a_depth, const T* b, int64_t b_depth, T* c, int64_t c_row,
                           int64_t depth) {
  typedef typename Vector<T>::Wide Wide;
  constexpr int kLanes = Vector<T>::kLanes, kVectors = kPanel / kLanes;
  Wide sum[Rows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; r++)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; v++) sum[r][v] = Add ? wide(c + r * c_row + v * kLanes) : Wide{};
  for (int64_t k = 0; k < depth; k++, a += a_depth, b += b_depth) {
    Wide row[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; v++) row[v] = wide(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; r++) {
      T scale = a[r * a_row];
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; v++) sum[r][v] += row[v] * scale;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; r++)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; v++) wide(c + r * c_row + v * kLanes) = sum[r][v];
}

template <bool Add, typename T>
static void panel(const T* a, int64_t a_row, int64_t a_depth, const T* b, int64_t b_depth, T* c, int64_t c_row,
                  int64_t rows, int64_t depth) {
  for (; rows >= kRows; rows -= kRows, a += kRows * a_row, c += kRows * c_row)
    panel_rows<kRows, Add>(a, a_row, a_depth, b, b_depth, c, c_row, depth);
  for (; rows >= 4; rows -= 4, a += 4 * a_row, c += 4 * c_row)
    panel_rows<4, Add>(a, a_row, a_depth, b, b_depth, c, c_row, depth);
  for (; rows > 0; rows--, a += a_row, c += c_row) panel_rows<1, Add>(a, a_row, a_depth, b, b_depth, c, c_row, depth);
}

// Values of a plane at count positions from `first` on, side by side.
template <typename T>
VSR_INLINE const T* line(const Planes<const T>& planes, int64_t n, int64_t c, int64_t first, int64_t count, T* copy) {
  const T* source = planes.plane(n, c) + first * planes.position;
  if (planes.position == 1) return source;
  for (int64_t t = 0; t < count; t++) copy[t] = source[t * planes.position];
  return copy;
}

// Where a block reads for a group and a tap.
template <bool Edge, typename T>
static void find_block(const Problem<T>& p, int64_t n, int64_t group, int64_t tap, int64_t first, int64_t count,
                       Scratch<T>& scratch) {
  int64_t channel = group * p.s.taps() + tap;
  T* copy = scratch.strided.get();
  const T* offset_y = line(p.offset, n, 2 * channel, first, count, copy);
  const T* offset_x = line(p.offset, n, 2 * channel + 1, first, count, copy + kBlock);
  const T* mask = line(p.mask, n, channel, first, count, copy + 2 * kBlock);
  int64_t zeros = p.zeros - (p.input + n * p.s.pixels() * p.channels);
  find_samples<Edge>(p.s, tap, p.channels, p.channels, zeros, offset_y, offset_x, mask, count, scratch.samples);
}

template <typename T>
static void forward_block(const Problem<T>& p, int64_t n, int64_t first, int64_t count, Scratch<T>& scratch) {
  const Shape& s = p.s;
  T* columns = scratch.columns.get();
  T* output = scratch.output.get();
  for (int64_t t = 0; t < count; t++) __builtin_memcpy(output + t * p.outputs, p.bias, p.outputs * sizeof(T));
  find_bases(s, first, count, scratch.samples);
  const T* image = p.input + n * s.pixels() * p.channels;
  auto gather_group = p.group_channels == 8    ? gather<8, T, T>
                      : p.group_channels == 16 ? gather<16, T, T>
                                               : gather<0, T, T>;
  for (int64_t tap = 0; tap < s.taps(); tap++) {
    for (int64_t g = 0; g < s.offset_groups; g++) {
      find_block<false>(p, n, g, tap, first, count, scratch);
      gather_group(image + g * p.group_channels, p.group_channels, count, scratch.samples,
                   columns + g * p.group_channels, p.channels);
    }
    const T* weight = p.weight_forward + tap * p.outputs * p.channels;
    for (int64_t o = 0; o < p.outputs; o += kPanel, weight += kPanel * p.channels) {
      Range r = p.channels_read_by(o);
      panel<true>(columns + r.first, p.channels, 1, weight + r.first * kPanel, kPanel, output + o, p.outputs, count,
                  r.last - r.first);
    }
  }
}

template <typename T>
static void backward_block(const Problem<T>& p, int64_t part, int64_t n, int64_t slab, int64_t first, int64_t count,
                           Scratch<T>& scratch) {
  const Shape& s = p.s;
  const int64_t row = p.slab_channels(), panels = row / kPanel, from = slab * row;
  const int64_t first_group = slab * p.slab_groups;
  const int64_t last_group =
      first_group + p.slab_groups < s.offset_groups ? first_group + p.slab_groups : s.offset_groups;
  const T* grad_output = p.grad_output + (n * s.positions() + first) * p.outputs;
  const T* image = p.input + n * s.pixels() * p.channels;
  T* grad_image = p.grad_input ? p.grad_input + (part * s.n + n) * (s.pixels() + 1) * p.channels : nullptr;
  T* columns = scratch.columns.get();
  T* grad_columns = scratch.grad_columns.get();
  auto scatter_group = p.group_channels == 8    ? scatter<8, T, T>
                       : p.group_channels == 16 ? scatter<16, T, T>
                                                : scatter<0, T, T>;
  find_bases(s, first, count, scratch.samples);
  for (int64_t tap = 0; tap < s.taps(); tap++) {
    for (int64_t j = 0; j < panels; j++) {
      int64_t channel = from + j * kPanel;
      Range r = p.outputs_reading(channel);
      const T* weight = p.weight_backward + tap * p.channels * p.outputs + channel * p.outputs;
      panel<false>(grad_output + r.first, p.outputs, 1, weight + r.first * kPanel, kPanel, grad_columns + j * kPanel,
                   row, count, r.last - r.first);
    }
    for (int64_t g = first_group; g < last_group; g++) {
      int64_t channel = g * s.taps() + tap, start = g * p.group_channels;
      find_block<true>(p, n, g, tap, first, count, scratch);
      T* grad_y = p.grad_offset.data ? p.grad_offset.plane(n, 2 * channel) + first * p.grad_offset.position : nullptr;
      T* grad_x = grad_y ? grad_y + p.grad_offset.channel : nullptr;
      T* grad_mask = p.grad_mask.data ? p.grad_mask.plane(n, channel) + first * p.grad_mask.position : nullptr;
      scatter_group(image + start, grad_image ? grad_image + start : nullptr, p.group_channels, count, scratch.samples,
                    scratch.samples.to, grad_columns + start - from, columns + start - from, row);
      offset_gradients(scratch.samples, count, grad_y, grad_x, grad_mask, p.grad_offset.position,
                       p.grad_mask.position);
    }
    if (p.grad_weight == nullptr) continue;
    T* grad_weight = p.grad_weight + (((part * s.n + n) * s.taps() + tap) * p.channels + from) * p.outputs;
    for (int64_t j = 0; j < panels; j++) {
      Range r = p.outputs_reading(from + j * kPanel);
      panel<true>(grad_output + r.first, 1, p.outputs, columns + j * kPanel, row,
                  grad_weight + j * p.outputs * kPanel + r.first * kPanel, kPanel, r.last - r.first, count);
    }
  }
}

template <typename T>
static Kernels<T> kernels() {
  return {forward_block<T>, backward_block<T>};
}

#undef VSR_SHUFFLE4
