// The data of the CPU kernels: packed copies of the tensors, and the scratch memory of one thread.
#pragma once

#include "../cpu/bits16.h"
#include "../cpu/memory.h"
#include "shape.h"

namespace vsr {

constexpr int64_t kPanel = 16;  // columns of a matrix product that stay in registers
constexpr int64_t kBlock = 64;  // output positions handled together: their columns of one tap stay in the L1 cache
constexpr int64_t kDepth = 64;  // channels whose columns are multiplied together in the forward pass
constexpr int64_t kPitch = kBlock + 16;  // of a block's lines: lines side by side do not share the sets of a cache

// A tensor (n, c, h, w) whose positions have a common stride: element (n, c, y, x) is at n * image + c * channel +
// (y * w + x) * position.
template <typename T>
struct Planes {
  T* data = nullptr;
  int64_t image = 0, channel = 0, position = 0;
  T* plane(int64_t n, int64_t c) const { return data + n * image + c * channel; }
};

// Packed pixels: `width` channels of one are side by side. Element (n, c, y, x) is at start + n * image + c / width *
// group + y * line + x * row + c % width.
struct Pixels {
  int64_t start, image, group, line, row, width;
};

// A frame of one group with a border of zeros, (h + 3, w + 2, channel of the group): the four pixels that a position
// reads are in the frame wherever it is. Positions outside read the last two rows.
struct Frame {
  int64_t line, size;  // numbers in a row, in all

  Frame(const Shape& s, int64_t channels) : line((s.w + 2) * channels), size((s.h + 3) * line) {}

  // Where the groups' frames, side by side, hold the pixels.
  Pixels pixels(const Shape& s, int64_t channels) const {
    return {line + channels, s.offset_groups * size, size, line, channels, s.group_channels()};
  }
};

struct Range {
  int64_t first, last;  // last is excluded
};

// Channels are packed so that a deformable group starts at a multiple of 8 and a panel holds whole groups or is part of
// one: group_channels is 8 or a multiple of 16, channels and outputs are multiples of 16, and padding is zero. In the
// forward pass the outputs of a weight group are padded to whole panels, too: no output meets another group's NaN, not
// even times zero.
template <typename T>
struct Problem {
  Shape s;
  int64_t group_channels, channels;
  int64_t group_outputs, outputs;
  int64_t slab_groups, slabs;    // a slab is what one backward task owns: as few groups as fill a panel
  const T* input;                // (n, group, frame)
  Planes<const T> offset, mask;  // a mask without data is 1
  const T* weight_forward;       // (tap, outputs / 16, channels, 16)
  const T* weight_backward;      // (tap, channels / 16, outputs, 16)
  const T* bias;                 // (outputs)
  const T* grad_output;          // (n, ho * wo, outputs)
  T* grad_input;                 // (part, n, group, frame), null if not needed
  Planes<T> grad_offset, grad_mask;
  T* grad_weight;  // (part, n, tap, channels / 16, outputs, 16), null if not needed

  Frame frame() const { return Frame(s, group_channels); }

  // Deformable groups whose columns are multiplied together.
  int64_t groups_together() const { return kDepth < group_channels ? 1 : kDepth / group_channels; }

  int64_t slab_channels() const {
    return slab_groups * group_channels < kPanel ? kPanel : slab_groups * group_channels;
  }

  // Packed channels that the 16 outputs from `output` on read: fewer than all when the weight has groups.
  Range channels_read_by(int64_t output) const {
    int64_t all = s.groups * group_outputs, last_output = (output + kPanel < all ? output + kPanel : all) - 1;
    int64_t read = s.c / s.groups;
    return {packed(output / group_outputs * read), packed((last_output / group_outputs + 1) * read - 1) + 1};
  }

  // Outputs that read the 16 packed channels from `channel` on.
  Range outputs_reading(int64_t channel) const {
    int64_t per_group = s.c / s.groups;
    int64_t first = unpacked(channel), last = unpacked(channel + kPanel - 1);
    return {first / per_group * group_outputs, (last / per_group + 1) * group_outputs};
  }

  int64_t packed_output(int64_t output) const {
    int64_t written = s.co / s.groups;
    return output / written * group_outputs + output % written;
  }

  int64_t packed(int64_t channel) const {
    return channel / s.group_channels() * group_channels + channel % s.group_channels();
  }

  // The input's channel at a packed one, or the last channel before a padding one.
  int64_t unpacked(int64_t channel) const {
    int64_t group = channel / group_channels, rest = channel % group_channels;
    if (group >= s.offset_groups) return s.c - 1;
    return group * s.group_channels() + (rest < s.group_channels() ? rest : s.group_channels() - 1);
  }
};

// Where one block of positions reads for one group and tap, bilinear.
template <typename T>
struct Samples {
  T base_y[kBlock], base_x[kBlock];  // coordinates of a position before padding, dilation and offset
  int32_t pixel[kBlock];             // the upper left one of four, in the frame with its border
  T weight[4][kBlock];               // of the pixels upper left, upper right, lower left and lower right
  T fraction_y[kBlock], fraction_x[kBlock];
  T mask[kBlock];
  T dot[kBlock][4];  // of the corners' values with the gradients of the columns
};

// Scratch memory of one thread.
template <typename T>
struct Scratch {
  Buffer<T> columns, grad_columns, output;         // (positions, channels) twice, (positions, outputs)
  Buffer<T> offset, mask, grad_offset, grad_mask;  // (channel, kPitch), used where they are not lines in memory
  Samples<T> samples;

  // For `lines` pairs of a group and a tap.
  Scratch(int64_t channels, int64_t outputs, int64_t lines)
      : columns(kBlock * channels),
        grad_columns(kBlock * channels),
        output(kBlock * outputs),
        offset(2 * lines * kPitch),
        mask(lines * kPitch),
        grad_offset(2 * lines * kPitch),
        grad_mask(lines * kPitch) {}
};

// The kernels compiled for one instruction set.
template <typename T>
struct Kernels {
  // Output of positions first ... first + count of image n, without layout: scratch.output (count, outputs).
  void (*forward)(const Problem<T>&, int64_t n, int64_t first, int64_t count, Scratch<T>&);
  // All gradients of those positions and of one slab of channels; grad_input and grad_weight are added to.
  void (*backward)(const Problem<T>&, int64_t part, int64_t n, int64_t slab, int64_t first, int64_t count, Scratch<T>&);
};

}  // namespace vsr
