// CPU deformable convolution of bfloat16 features: blocks of positions are sampled to columns of all taps, which
// PyTorch's bfloat16 product multiplies, with the matrix units where the machine has them (oneDNN: AMX). With
// AVX512-BF16 and no AMX, a product of our own does it in the forward pass.
//
// Coordinates, weights of the corners and sums of gradients are float32. Both passes share (image, block); the backward
// pass gives each share of an image gradients of its own, summed in order, so that results do not depend on timing.
#include "cpu_16bit.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <torch/csrc/stable/library.h>

#include <array>
#include <vector>

#include "../cpu/choice.h"
#include "cpu_16bit_problem.h"
#include "cpu_layouts.h"

namespace vsr {
namespace bits16 {

#define VSR_KERNELS "../dcn/cpu_16bit_tile.h"
#define VSR_AVX512_BF16
#include "../cpu/instruction_sets.h"

namespace {

constexpr int64_t kPositions = 256;  // of a block: its columns fill a part of the L2 cache

// A tensor of some memory, which autograd does not know: the threads that multiply do not know that it is off.
Tensor view(const Bits16* from, std::vector<int64_t> sizes, std::vector<int64_t> strides) {
  torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  return st::from_blob(const_cast<Bits16*>(from), sizes, strides, cpu, ScalarType::BFloat16);
}

// A view (rows, columns) of memory, `row` and `column` apart.
Tensor matrix(const Bits16* from, int64_t rows, int64_t columns, int64_t row, int64_t column = 1) {
  return view(from, {rows, columns}, {row, column});
}

// out = a b.
void multiply(const Tensor& a, const Tensor& b, const Tensor& out) {
  using torch::stable::detail::from;
  std::array<StableIValue, 3> stack{from(a), from(b), from(out)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);  // owns the result
}

// out = a weightᵀ + bias, rounded once.
void multiply_and_add(const Tensor& a, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& out) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(a), from(weight), from(bias), from(out)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::linear", "out", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);
}

// A tensor (n, c, h, w) with channels innermost, copied only if it is not so already.
Tensor channels_inside(const Tensor& x) {
  return is_channels_last(x) ? x : st::contiguous(x, MemoryFormat::ChannelsLast);
}

const Bits16* bits(const Tensor& x) { return static_cast<const Bits16*>(x.data_ptr()); }

// (n, c, h, w) of any layout to (n, group, frame): the pixels that a group reads are side by side.
Tensor pack_input(const Shape& s, const Tensor& x) {
  Frame frame(s, s.group_channels());
  Tensor packed = st::empty({s.n * s.offset_groups * frame.size}, ScalarType::BFloat16);
  st::zero_(packed);
  visit_pixels(x, planes<const Bits16>(x), frame.pixels(s, s.group_channels()), data<Bits16>(packed),
               [](Bits16& out, const Bits16& in) { out = in; });
  return packed;
}

// A tensor's numbers where they are.
Source source(const Tensor& x) {
  Planes<float> p = planes<float>(x);
  return {x.data_ptr(), x.scalar_type() == ScalarType::BFloat16, x.size(1), p.image, p.channel, p.position};
}

// The tensor in a type and layout that a source may have.
Tensor readable(const Tensor& x) {
  return with_planes(x.scalar_type() == ScalarType::BFloat16 ? x : st::to(x, ScalarType::Float));
}

// The problem and the tensors it points into.
struct Packed16 : Problem16 {
  Tensor input_, offset_;
  std::optional<Tensor> mask_;

  Packed16(const Shape& shape, const Tensor& x, const Tensor& offsets, const std::optional<Tensor>& masks)
      : input_(pack_input(shape, with_planes(x))), offset_(readable(offsets)) {
    s = shape;
    input = bits(input_);
    offset = source(offset_);
    if (!masks) return;
    mask_ = readable(*masks);
    mask = source(*mask_);
  }
};

// Visit(i, j) gets the places of an element in a contiguous weight (co, c, kh, kw) and in the packed one.
template <typename F>
void visit_weight(const Shape& s, F visit) {
  int64_t width = s.group_channels(), taps = s.taps();
  for (int64_t o = 0; o < s.co; o++)
    for (int64_t c = 0; c < s.c; c++)
      for (int64_t tap = 0; tap < taps; tap++)
        visit((o * s.c + c) * taps + tap, ((o * s.offset_groups + c / width) * taps + tap) * width + c % width);
}

// The weight (co, c, kh, kw) as rows (co, group, tap, channel of the group), the order of the columns.
Tensor pack_weight(const Shape& s, const Tensor& weight) {
  Tensor dense = st::contiguous(weight), packed = st::empty({s.co, s.taps() * s.c}, ScalarType::BFloat16);
  visit_weight(s, [from = bits(dense), to = data<Bits16>(packed)](int64_t i, int64_t j) { to[j] = from[i]; });
  return packed;
}

// The packed weight as panels (word, output) and the bias, which the product of our own reads; outputs are filled up
// with zeros to whole registers.
struct Factors {
  Tensor panels, added;

  Factors(const Shape& s, const Kernels<float>& kernels, const Tensor& rows, const std::optional<Tensor>& bias) {
    int64_t words = s.taps() * s.c / 2, outputs = round_up(s.co, kernels.lanes);
    int64_t panel = kernels.lanes * kernels.panel_registers;
    panels = st::empty({outputs * words}, ScalarType::Int), added = zero_workspace<float>(outputs);
    const uint32_t* from = data<uint32_t>(rows);
    for (int64_t o = 0; o < outputs; o++) {
      int64_t first = o / panel * panel, width = std::min(panel, outputs - first);
      uint32_t* to = data<uint32_t>(panels) + first * words + o - first;
      for (int64_t k = 0; k < words; k++) to[k * width] = o < s.co ? from[o * words + k] : 0;
    }
    if (!bias) return;
    Tensor floats = st::to(*bias, ScalarType::Float);
    std::copy(data<float>(floats), data<float>(floats) + s.co, data<float>(added));
  }
};

// How many parts each of n images is split into so that the threads have equally much to do; each part costs memory.
int64_t count_parts(int64_t n, int64_t threads, int64_t blocks) {
  int64_t best = 1;
  auto busy = [&](int64_t parts) { return double(n * parts) / round_up(n * parts, threads); };
  for (int64_t parts = 2; parts <= std::min(blocks, round_up(threads, n) / n * 2); parts++)
    if (busy(parts) > busy(best)) best = parts;
  return best;
}

}  // namespace
}  // namespace bits16

bool computes_in_16_bits(const Shape& s, const Tensor& input) {
  bool fits = s.n > 0 && s.groups == 1 && s.group_channels() % 8 == 0 && s.co % 8 == 0;
  return fits && input.scalar_type() == ScalarType::BFloat16 && multiplies_16_bits();
}

Tensor forward_16bit(const Shape& s, const Tensor& input, const Tensor& offset, const Tensor& weight,
                     const std::optional<Tensor>& bias, const std::optional<Tensor>& mask) {
  using namespace bits16;
  Tensor output = empty_as(input, {s.n, s.co, s.ho, s.wo}, ScalarType::BFloat16);
  Packed16 p(s, input, offset, mask);
  Tensor rows = pack_weight(s, weight);
  std::optional<Tensor> dense;
  if (bias) dense = st::contiguous(*bias);
  bool in_place = is_channels_last(output);
  auto kernels = choose_kernels<float>();
  std::optional<Factors> factors;
  if (vectors_multiply_16_bits()) factors.emplace(s, kernels, rows, dense);
  int64_t blocks = (s.positions() + kPositions - 1) / kPositions, depth = s.taps() * s.c;
  st::parallel_for(0, s.n * blocks, 1, [&](int64_t begin, int64_t end) {
    Scratch16 scratch(s, kPositions, false);
    Buffer<Bits16> product(in_place ? 0 : kPositions * s.co);
    Buffer<float> sums(factors ? kPositions * kernels.lanes * kernels.panel_registers : 0);
    Tensor factor = matrix(bits(rows), s.co, depth, depth);
    std::optional<Tensor> added;
    if (dense) added = view(bits(*dense), {s.co}, {1});
    for (int64_t i = begin; i < end; i++) {
      int64_t n = i / blocks, first = i % blocks * kPositions, count = std::min(kPositions, s.positions() - first);
      kernels.gather(p, n, first, count, scratch);
      Bits16* to = in_place ? data<Bits16>(output) + (n * s.positions() + first) * s.co : product.get();
      if (factors)
        kernels.multiply(scratch.columns.get(), count, data<uint32_t>(factors->panels), depth / 2,
                         data<float>(factors->added), s.co, sums.get(), to);
      else
        multiply_and_add(matrix(scratch.columns.get(), count, depth, depth), factor, added,
                         matrix(to, count, s.co, s.co));
      if (in_place) continue;
      Planes<Bits16> out = planes<Bits16>(output);
      for (int64_t o = 0; o < s.co; o++)
        for (int64_t t = 0; t < count; t++) out.plane(n, o)[first + t] = to[t * s.co + o];
    }
  });
  return output;
}

Gradients backward_16bit(const Shape& s, const Tensor& grad_output, const Tensor& input, const Tensor& offset,
                         const Tensor& weight, const std::optional<Tensor>& mask, const std::vector<bool>& needed) {
  using namespace bits16;
  Tensor grad_input = no_gradient(input), grad_offset = no_gradient(offset), grad_mask = no_gradient(offset);
  Tensor grad_weight = needed[2] ? st::empty(sizes_of(weight), weight.scalar_type()) : no_gradient(weight);
  Packed16 p(s, input, offset, mask);
  if (needed[1]) p.grad_offset = source(grad_offset = empty_as(offset, sizes_of(offset), p.offset_.scalar_type()));
  if (needed[3] && mask) p.grad_mask = source(grad_mask = empty_as(*mask, sizes_of(*mask), p.mask_->scalar_type()));
  Tensor rows = pack_weight(s, weight), gradient = channels_inside(grad_output);
  int64_t blocks = (s.positions() + kPositions - 1) / kPositions, depth = s.taps() * s.c, weight_size = s.co * depth;
  int64_t parts = count_parts(s.n, st::get_num_threads(), blocks);
  Frame frame = p.frame();
  int64_t image_size = s.offset_groups * frame.size;
  Tensor images = zero_workspace<float>(needed[0] ? parts * s.n * image_size : 0);
  Tensor weights = zero_workspace<float>(needed[2] ? parts * s.n * weight_size : 0);
  auto kernels = choose_kernels<float>();
  st::parallel_for(0, parts * s.n, 1, [&](int64_t begin, int64_t end) {
    Scratch16 scratch(s, kPositions, true);
    Buffer<Bits16> product(needed[2] ? weight_size : 0);
    Tensor factor = matrix(bits(rows), s.co, depth, depth), sum = matrix(product.get(), s.co, depth, depth);
    for (int64_t i = begin; i < end; i++) {
      int64_t n = i % s.n, part = i / s.n;
      float* grad_image = needed[0] ? data<float>(images) + i * image_size : nullptr;
      for (int64_t block = blocks * part / parts; block < blocks * (part + 1) / parts; block++) {
        int64_t first = block * kPositions, count = std::min(kPositions, s.positions() - first);
        const Bits16* from = bits(gradient) + (n * s.positions() + first) * s.co;
        Tensor columns = matrix(scratch.columns.get(), count, depth, depth);
        multiply(matrix(from, count, s.co, s.co), factor, matrix(scratch.grad_columns.get(), count, depth, depth));
        kernels.scatter(p, n, first, count, grad_image, scratch);
        if (!needed[2]) continue;
        multiply(matrix(from, s.co, count, 1, s.co), columns, sum);
        kernels.add(data<float>(weights) + i * weight_size, product.get(), weight_size);
      }
    }
  });

  if (needed[0]) {
    int64_t width = s.group_channels();
    Tensor inside = st::empty(sizes_of(input), ScalarType::BFloat16, {}, {}, {}, MemoryFormat::ChannelsLast);
    st::parallel_for(0, s.n * s.h, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++)
        for (int64_t g = 0; g < s.offset_groups; g++)
          kernels.sum(data<float>(images) + i / s.h * image_size + g * frame.size + (i % s.h + 1) * frame.line + width,
                      parts, s.n * image_size, width, data<Bits16>(inside) + i * s.w * s.c + g * width, s.c, s.w);
    });
    grad_input = layout_of(input) == MemoryFormat::ChannelsLast ? inside : st::contiguous(inside);
  }
  if (needed[2]) {
    Buffer<Bits16> total(weight_size);
    kernels.sum(data<float>(weights), parts * s.n, weight_size, depth, total.get(), depth, s.co);
    visit_weight(s, [&](int64_t i, int64_t j) { data<Bits16>(grad_weight)[i] = total.get()[j]; });
  }
  if (needed[1]) grad_offset = st::to(grad_offset, offset.scalar_type());
  if (needed[3] && mask) grad_mask = st::to(grad_mask, mask->scalar_type());
  return {grad_input, grad_offset, grad_weight, grad_mask};
}

}  // namespace vsr
