// The data of the CPU kernels of bfloat16 features, and the scratch memory of one thread.
#pragma once

#include "cpu_problem.h"

namespace vsr::bits16 {

// Planes (n, c, h, w) of float or bfloat16.
struct Source {
  void* data = nullptr;
  bool is_16bit = false;
  int64_t channels = 0, image = 0, channel = 0, position = 0;
};

// A row of the columns is (group, tap, channel of the group).
struct Problem16 {
  Shape s;
  const Bits16* input;            // (n, group, frame)
  Source offset, mask;            // a mask without data is 1
  Source grad_offset, grad_mask;  // without data where not wanted

  int64_t row() const { return s.taps() * s.c; }
  Frame frame() const { return Frame(s, s.group_channels()); }
};

// Scratch memory of one thread, which handles `block` positions at a time.
struct Scratch16 {
  Buffer<Bits16> columns, grad_columns;  // (block, row)
  Buffer<float> offset, mask;            // (channel, kPitch), copied where they are not so in memory
  Buffer<float> grad_offset, grad_mask;
  Samples<float> samples;

  Scratch16(const Shape& s, int64_t block, bool backward)
      : columns(block * s.taps() * s.c),
        grad_columns(backward ? block * s.taps() * s.c : 0),
        offset(2 * s.offset_groups * s.taps() * kPitch),
        mask(s.offset_groups * s.taps() * kPitch),
        grad_offset(backward ? 2 * s.offset_groups * s.taps() * kPitch : 0),
        grad_mask(backward ? s.offset_groups * s.taps() * kPitch : 0) {}
};

// The kernels compiled for one instruction set.
template <typename T>
struct Kernels {
  int lanes, panel_registers;
  // The columns of positions first ... first + count of image n, in scratch.columns.
  void (*gather)(const Problem16&, int64_t n, int64_t first, int64_t count, Scratch16&);
  // to (count, outputs) = rows (count, 2 words) · factors + bias; the factors are panels (word, output), and they and
  // the bias are filled up to whole registers. `sums` holds (count, outputs of a panel).
  void (*multiply)(const Bits16* rows, int64_t count, const uint32_t* factors, int64_t words, const float* bias,
                   int64_t outputs, float* sums, Bits16* to);
  // From scratch.grad_columns: the columns, the gradients of offset and mask, and the input's, added to grad_image
  // (group, frame) unless it is null.
  void (*scatter)(const Problem16&, int64_t n, int64_t first, int64_t count, float* grad_image, Scratch16&);
  // total += part.
  void (*add)(float* total, const Bits16* part, int64_t size);
  // to (rows, width), `row` apart = the sum of parts (rows, width), `step` apart.
  void (*sum)(const float* from, int64_t parts, int64_t step, int64_t width, Bits16* to, int64_t row, int64_t rows);
};

}  // namespace vsr::bits16
