// The CPU kernels of bfloat16 features. cpu/instruction_sets.h includes this file once per instruction set.
//
// They sample in float32 and store columns of bfloat16, which PyTorch's product multiplies. A block goes group by
// group: the rows of pixels that a group reads, in all its taps, stay in the L1 cache.

#include "cpu_sampling.h"
#include "cpu_lines.h"
#include "../cpu/products.h"

// Lines of all channels at count positions from `first` on, `pitch` apart: the numbers in memory where they are floats
// in lines, else copied.
template <typename S>
VSR_INLINE const float* read_lines(const Source& from, int64_t n, int64_t first, int64_t count, float* copy) {
  const S* start = (const S*)from.data + n * from.image + first * from.position;
  copy_lines(start, from.channel, from.position, count, from.channels, copy);
  return copy;
}

static const float* lines(const Source& from, int64_t n, int64_t first, int64_t count, float* copy, int64_t& pitch) {
  pitch = kPitch;
  if (from.data == nullptr) {  // the mask
    for (int64_t t = 0; t < count; t++) copy[t] = 1;
    pitch = 0;
    return copy;
  }
  if (from.is_16bit) return read_lines<Bits16>(from, n, first, count, copy);
  if (from.position != 1) return read_lines<float>(from, n, first, count, copy);
  pitch = from.channel;
  return (const float*)from.data + n * from.image + first;
}

// Lines to where they belong, if they are wanted.
static void write(const float* lines, const Source& to, int64_t n, int64_t first, int64_t count) {
  if (to.data == nullptr) return;
  int64_t start = n * to.image + first * to.position;
  if (to.is_16bit)
    write_lines(lines, (Bits16*)to.data + start, to.channel, to.position, count, to.channels);
  else
    write_lines(lines, (float*)to.data + start, to.channel, to.position, count, to.channels);
}

// Visit(group, channel) where a group reads, for all groups and taps; scratch.samples then holds the samples, and
// `channel` is that of the mask.
template <bool Edge, typename F>
VSR_INLINE void visit_samples(const Problem16& p, int64_t n, int64_t first, int64_t count, Scratch16& scratch,
                              F visit) {
  const Shape& s = p.s;
  int64_t pitch, mask_pitch;
  const float* offset = lines(p.offset, n, first, count, scratch.offset.get(), pitch);
  const float* mask = lines(p.mask, n, first, count, scratch.mask.get(), mask_pitch);
  find_bases(s, first, count, scratch.samples);
  for (int64_t g = 0; g < s.offset_groups; g++)
    for (int64_t tap = 0; tap < s.taps(); tap++) {
      int64_t channel = g * s.taps() + tap;
      const float* y = offset + 2 * channel * pitch;
      find_samples<Edge>(s, tap, y, y + pitch, mask + channel * mask_pitch, count, scratch.samples);
      visit(g, channel);
    }
}

static void gather_16bit(const Problem16& p, int64_t n, int64_t first, int64_t count, Scratch16& scratch) {
  const int64_t width = p.s.group_channels();
  const Frame frame = p.frame();
  const Bits16* image = p.input + n * p.s.offset_groups * frame.size;
  auto gather_group = width == 8 ? gather<8, float, Bits16> : gather<0, float, Bits16>;
  for (int64_t done = 0; done < count; done += kBlock) {
    int64_t some = count - done < kBlock ? count - done : kBlock;
    Bits16* columns = scratch.columns.get() + done * p.row();
    visit_samples<false>(p, n, first + done, some, scratch, [&](int64_t g, int64_t channel) {
      gather_group(image + g * frame.size, frame.line, width, some, scratch.samples, columns + channel * width,
                   p.row());
    });
  }
}

static void multiply_16bit(const Bits16* rows, int64_t count, const uint32_t* factors, int64_t words, const float* bias,
                           int64_t outputs, float* sums, Bits16* to) {
  const int64_t panel = kRegisters * kLanes, depth = 96;  // words whose factors stay in the L1 cache
  const uint32_t* from = (const uint32_t*)rows;
  for (int64_t first = 0; first < outputs; first += panel) {
    const int64_t left = outputs - first, width = left < panel ? (left + kLanes - 1) / kLanes * kLanes : panel;
    const uint32_t* own = factors + first * words;
    for (int64_t k = 0; k < words; k += depth) {
      const int64_t some = words - k < depth ? words - k : depth;
      auto multiply_some = k == 0 ? multiply_panel<false, uint32_t> : multiply_panel<true, uint32_t>;
      multiply_some(from + k, count, words, 1, own + k * width, width, some, sums, width);
    }
    for (int64_t t = 0; t < count; t++)
      for (int64_t o = 0; o < width; o += kLanes)
        store_some(to + t * outputs + first + o, load(sums + t * width + o) + load(bias + first + o), left - o);
  }
}

static void scatter_16bit(const Problem16& p, int64_t n, int64_t first, int64_t count, float* grad_image,
                          Scratch16& scratch) {
  const int64_t width = p.s.group_channels();
  const Frame frame = p.frame();
  const Bits16* image = p.input + n * p.s.offset_groups * frame.size;
  const bool for_offset = p.grad_offset.data != nullptr, for_mask = p.grad_mask.data != nullptr;
  auto scatter_group = width == 8 ? scatter<8, float, Bits16> : scatter<0, float, Bits16>;
  for (int64_t done = 0; done < count; done += kBlock) {
    int64_t some = count - done < kBlock ? count - done : kBlock;
    const Bits16* grad_columns = scratch.grad_columns.get() + done * p.row();
    Bits16* columns = scratch.columns.get() + done * p.row();
    float *grad_offset = scratch.grad_offset.get(), *grad_mask = scratch.grad_mask.get();
    visit_samples<true>(p, n, first + done, some, scratch, [&](int64_t g, int64_t channel) {
      scatter_group(image + g * frame.size, grad_image ? grad_image + g * frame.size : nullptr, frame.line, width, some,
                    scratch.samples, grad_columns + channel * width, columns + channel * width, p.row());
      float* grad_y = grad_offset + 2 * channel * kPitch;
      offset_gradients(scratch.samples, some, for_offset ? grad_y : nullptr, grad_y + kPitch,
                       for_mask ? grad_mask + channel * kPitch : nullptr);
    });
    write(grad_offset, p.grad_offset, n, first + done, some);
    write(grad_mask, p.grad_mask, n, first + done, some);
  }
}

static void add_16bit(float* total, const Bits16* part, int64_t size) {
  for (int64_t i = 0; i < size; i += 8) eight(total + i) += load_eight(part + i);
}

static void sum_16bit(const float* from, int64_t parts, int64_t step, int64_t width, Bits16* to, int64_t row,
                      int64_t rows) {
  for (int64_t i = 0; i < rows; i++, from += width, to += row)
    for (int64_t c = 0; c < width; c += 8) {
      Octet<float>::Eight sum = load_eight(from + c);
      for (int64_t k = 1; k < parts; k++) sum += load_eight(from + k * step + c);
      store_eight(to + c, sum);
    }
}

template <typename T>
static Kernels<T> kernels() {
  return {kLanes, kRegisters, gather_16bit, multiply_16bit, scatter_16bit, add_16bit, sum_16bit};
}

#undef VSR_SHUFFLE4
