// The CPU kernels, in plain C++ with vectors of a fixed size. cpu/instruction_sets.h includes this file once per
// instruction set.
//
// A block of positions goes tap by tap: sample the columns of some groups (positions x channels, in L1), then add
// columns x weight to the block's output. Nothing larger than a block is ever stored.

#include "cpu_sampling.h"
#include "cpu_lines.h"

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

// Lines of channels: number t of channel c is data[c * pitch + t].
template <typename T>
struct Lines {
  T* data;
  int64_t pitch;
  T* line(int64_t c) const { return data ? data + c * pitch : nullptr; }
};

// Lines of `channels` channels from c on, at count positions from `first` on; copied where they are no lines in memory.
template <typename T>
static Lines<const T> read(const Planes<const T>& planes, int64_t n, int64_t c, int64_t channels, int64_t first,
                           int64_t count, T* copy) {
  if (planes.data == nullptr) {  // the mask: one line of ones
    for (int64_t t = 0; t < count; t++) copy[t] = 1;
    return {copy, 0};
  }
  const T* start = planes.plane(n, c) + first * planes.position;
  if (planes.position == 1) return {start, planes.channel};
  copy_lines(start, planes.channel, planes.position, count, channels, copy);
  return {copy, kPitch};
}

// Where the gradients of those channels are written: in place or to a copy.
template <typename T>
static Lines<T> target(const Planes<T>& planes, int64_t n, int64_t c, int64_t first, T* copy) {
  if (planes.data == nullptr) return {nullptr, 0};
  if (planes.position == 1) return {planes.plane(n, c) + first, planes.channel};
  return {copy, kPitch};
}

// Copies of such lines to where they belong.
template <typename T>
static void write(const Lines<T>& lines, const Planes<T>& planes, int64_t n, int64_t c, int64_t channels, int64_t first,
                  int64_t count) {
  if (planes.data == nullptr || planes.position == 1) return;
  write_lines(lines.data, planes.plane(n, c) + first * planes.position, planes.channel, planes.position, count,
              channels);
}

// A line that is read soon: planes are in different pages of memory, so that the hardware does not look ahead.
template <typename T>
static void prefetch(const T* line, int64_t count) {
  for (int64_t t = 0; t < count; t += 64 / sizeof(T)) __builtin_prefetch(line + t);
}

// Where a block reads for a group and a tap, whose lines are those of `channel`.
template <bool Edge, typename T>
static void find_block(const Problem<T>& p, int64_t tap, int64_t channel, const Lines<const T>& offset,
                       const Lines<const T>& mask, int64_t count, Samples<T>& samples) {
  const T *y = offset.line(2 * channel), *x = offset.line(2 * channel + 1), *m = mask.line(channel);
  for (const T* next : {y + 2 * offset.pitch, x + 2 * offset.pitch, m + mask.pitch}) prefetch(next, count);
  find_samples<Edge>(p.s, tap, y, x, m, count, samples);
}

template <typename T>
static void forward_block(const Problem<T>& p, int64_t n, int64_t first, int64_t count, Scratch<T>& scratch) {
  const Shape& s = p.s;
  T* columns = scratch.columns.get();
  T* output = scratch.output.get();
  for (int64_t t = 0; t < count; t++) __builtin_memcpy(output + t * p.outputs, p.bias, p.outputs * sizeof(T));
  find_bases(s, first, count, scratch.samples);
  const Frame frame = p.frame();
  const T* image = p.input + n * s.offset_groups * frame.size;
  auto gather_group = p.group_channels == 8    ? gather<8, T, T>
                      : p.group_channels == 16 ? gather<16, T, T>
                                               : gather<0, T, T>;
  const int64_t together = p.groups_together(), row = together * p.group_channels;
  for (int64_t first_group = 0; first_group < s.offset_groups; first_group += together) {
    const int64_t last_group = first_group + together < s.offset_groups ? first_group + together : s.offset_groups;
    const int64_t from = first_group * p.group_channels, to = last_group * p.group_channels;
    const int64_t start = first_group * s.taps(), lines = (last_group - first_group) * s.taps();
    Lines<const T> offset = read(p.offset, n, 2 * start, 2 * lines, first, count, scratch.offset.get());
    Lines<const T> mask = read(p.mask, n, start, lines, first, count, scratch.mask.get());
    for (int64_t tap = 0; tap < s.taps(); tap++) {
      for (int64_t g = first_group; g < last_group; g++) {
        find_block<false>(p, tap, g * s.taps() + tap - start, offset, mask, count, scratch.samples);
        gather_group(image + g * frame.size, frame.line, p.group_channels, count, scratch.samples,
                     columns + g * p.group_channels - from, row);
      }
      const T* weight = p.weight_forward + tap * p.outputs * p.channels;
      for (int64_t o = 0; o < p.outputs; o += kPanel, weight += kPanel * p.channels) {
        Range r = p.channels_read_by(o);
        r = {r.first < from ? from : r.first, r.last < to ? r.last : to};
        if (r.first < r.last)
          panel<true>(columns + r.first - from, row, 1, weight + r.first * kPanel, kPanel, output + o, p.outputs, count,
                      r.last - r.first);
      }
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
  const Frame frame = p.frame();
  const T* image = p.input + n * s.offset_groups * frame.size;
  T* grad_image = p.grad_input ? p.grad_input + (part * s.n + n) * s.offset_groups * frame.size : nullptr;
  T* columns = scratch.columns.get();
  T* grad_columns = scratch.grad_columns.get();
  auto scatter_group = p.group_channels == 8    ? scatter<8, T, T>
                       : p.group_channels == 16 ? scatter<16, T, T>
                                                : scatter<0, T, T>;
  const int64_t start = first_group * s.taps(), lines = (last_group - first_group) * s.taps();
  Lines<const T> offset = read(p.offset, n, 2 * start, 2 * lines, first, count, scratch.offset.get());
  Lines<const T> mask = read(p.mask, n, start, lines, first, count, scratch.mask.get());
  Lines<T> grad_offset = target(p.grad_offset, n, 2 * start, first, scratch.grad_offset.get());
  Lines<T> grad_mask = target(p.grad_mask, n, start, first, scratch.grad_mask.get());
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
      int64_t line = (g - first_group) * s.taps() + tap, channel = g * p.group_channels - from;
      find_block<true>(p, tap, line, offset, mask, count, scratch.samples);
      scatter_group(image + g * frame.size, grad_image ? grad_image + g * frame.size : nullptr, frame.line,
                    p.group_channels, count, scratch.samples, grad_columns + channel, columns + channel, row);
      offset_gradients(scratch.samples, count, grad_offset.line(2 * line), grad_offset.line(2 * line + 1),
                       grad_mask.line(line));
    }
    if (p.grad_weight == nullptr) continue;
    T* grad_weight = p.grad_weight + (((part * s.n + n) * s.taps() + tap) * p.channels + from) * p.outputs;
    for (int64_t j = 0; j < panels; j++) {
      Range r = p.outputs_reading(from + j * kPanel);
      panel<true>(grad_output + r.first, 1, p.outputs, columns + j * kPanel, row,
                  grad_weight + j * p.outputs * kPanel + r.first * kPanel, kPanel, r.last - r.first, count);
    }
  }
  write(grad_offset, p.grad_offset, n, 2 * start, 2 * lines, first, count);
  write(grad_mask, p.grad_mask, n, start, lines, first, count);
}

template <typename T>
static Kernels<T> kernels() {
  return {forward_block<T>, backward_block<T>};
}

#undef VSR_SHUFFLE4
