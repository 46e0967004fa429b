// CPU deformable convolution: packs the tensors, shares blocks of positions among the threads, and picks the kernels
// for this machine.
//
// Everything is computed in fp32 (fp64 for fp64); cpu_16bit.cpp has bfloat16 on machines with units for it. The forward
// pass shares (image, block); the backward pass shares (image, slab of channels), which own disjoint parts of every
// gradient, so that no atomics are needed and results do not depend on timing. Where there are fewer slabs than
// threads, an image's positions are split into parts with gradients of their own, summed in order.
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../cpu/choice.h"
#include "cpu_16bit.h"
#include "cpu_layouts.h"

namespace vsr {

#define VSR_KERNELS "../dcn/cpu_tile.h"
#include "../cpu/instruction_sets.h"

namespace {

// Element (o, i, tap) of a contiguous (co, c / groups, kh, kw) weight to and from the packed panels. Visit(from, to)
// gets both indices.
template <typename T, typename F>
void visit_weight(const Problem<T>& p, bool forward, F visit) {
  const Shape& s = p.s;
  int64_t read = s.c / s.groups, written = s.co / s.groups, taps = s.taps();
  int64_t rows = forward ? p.channels : p.outputs;
  st::parallel_for(0, s.co, 8, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++)
      for (int64_t i = 0; i < read; i++) {
        int64_t channel = p.packed(o / written * read + i), plain = (o * read + i) * taps;
        int64_t output = p.packed_output(o), row = forward ? channel : output, column = forward ? output : channel;
        int64_t packed = (column / kPanel * rows + row) * kPanel + column % kPanel;
        for (int64_t tap = 0; tap < taps; tap++) visit(plain + tap, packed + tap * p.channels * p.outputs);
      }
  });
}

template <typename T>
Tensor pack_weight(const Problem<T>& p, const Tensor& weight, bool forward) {
  Tensor dense = st::contiguous(weight), packed = workspace<T>(p.s.taps() * p.channels * p.outputs);
  T* to = data<T>(packed);
  std::fill(to, to + packed.numel(), T(0));
  with_type(weight.scalar_type(), [&](auto tag) {
    auto from = data<decltype(tag)>(dense);
    visit_weight(p, forward, [&](int64_t i, int64_t j) { to[j] = static_cast<T>(from[i]); });
  });
  return packed;
}

// The problem and the tensors it points into.
template <typename T>
struct Packed : Problem<T> {
  Tensor input_, offset_, mask_;
};

template <typename T>
Packed<T> make_problem(const Shape& s, const Tensor& input, const Tensor& offset, const std::optional<Tensor>& mask,
                       bool forward) {
  Packed<T> p;
  p.s = s;
  p.group_channels = s.group_channels() <= 8 ? 8 : round_up(s.group_channels(), kPanel);
  p.channels = round_up(p.group_channels * s.offset_groups, kPanel);
  p.group_outputs = forward && s.groups > 1 ? round_up(s.co / s.groups, kPanel) : s.co / s.groups;
  p.outputs = round_up(s.groups * p.group_outputs, kPanel);
  p.slab_groups = std::max<int64_t>(1, kPanel / p.group_channels);
  p.slabs = p.channels / p.slab_channels();

  Frame frame = p.frame();
  p.input_ = zero_workspace<T>(s.n * s.offset_groups * frame.size);
  pack(with_planes(input), frame.pixels(s, p.group_channels), data<T>(p.input_));
  p.input = data<T>(p.input_);

  p.offset_ = with_planes(st::to(offset, dtype_of<T>()));
  p.offset = planes<const T>(p.offset_);
  if (mask) {
    p.mask_ = with_planes(st::to(*mask, dtype_of<T>()));
    p.mask = planes<const T>(p.mask_);
  }
  return p;
}

template <typename T>
Tensor forward(const Shape& s, const Tensor& input, const Tensor& offset, const Tensor& weight,
               const std::optional<Tensor>& bias, const std::optional<Tensor>& mask) {
  Tensor output = empty_as(input, {s.n, s.co, s.ho, s.wo}, input.scalar_type());
  if (output.numel() == 0) return output;
  Packed<T> p = make_problem<T>(s, input, offset, mask, true);
  std::vector<int64_t> columns(s.co);  // of the outputs in a packed row
  for (int64_t o = 0; o < s.co; o++) columns[o] = p.packed_output(o);
  Tensor packed_weight = pack_weight(p, weight, true);
  p.weight_forward = data<T>(packed_weight);
  Tensor packed_bias = zero_workspace<T>(p.outputs);
  p.bias = data<T>(packed_bias);
  if (bias) {
    Tensor dense = st::contiguous(st::to(*bias, dtype_of<T>()));
    for (int64_t o = 0; o < s.co; o++) data<T>(packed_bias)[columns[o]] = data<T>(dense)[o];
  }
  Kernels<T> kernels = choose_kernels<T>();
  int64_t blocks = (s.positions() + kBlock - 1) / kBlock;
  with_type(output.scalar_type(), [&](auto tag) {
    using To = decltype(tag);
    Planes<To> to = planes<To>(output);
    st::parallel_for(0, s.n * blocks, 1, [&](int64_t begin, int64_t end) {
      Scratch<T> scratch(p.groups_together() * p.group_channels, p.outputs, p.groups_together() * s.taps());
      for (int64_t i = begin; i < end; i++) {
        int64_t n = i / blocks, first = i % blocks * kBlock, count = std::min(kBlock, s.positions() - first);
        kernels.forward(p, n, first, count, scratch);
        const T* from = scratch.output.get();
        To* out = to.plane(n, 0) + first * to.position;
        if (to.position == 1) {
          for (int64_t o = 0; o < s.co; o++)
            for (int64_t t = 0; t < count; t++)
              out[o * to.channel + t] = static_cast<To>(from[t * p.outputs + columns[o]]);
        } else {
          for (int64_t t = 0; t < count; t++)
            for (int64_t o = 0; o < s.co; o++)
              out[t * to.position + o * to.channel] = static_cast<To>(from[t * p.outputs + columns[o]]);
        }
      }
    });
  });
  return output;
}

// How many parts an image's positions are split into so that every thread has work.
int64_t count_parts(int64_t tasks, int64_t blocks) {
  int64_t threads = st::get_num_threads();
  if (tasks >= threads) return 1;
  return std::min<int64_t>(blocks, (threads + tasks - 1) / tasks);
}

template <typename T>
Gradients backward(const Shape& s, const Tensor& grad_output, const Tensor& input, const Tensor& offset,
                   const Tensor& weight, const std::optional<Tensor>& mask, const std::vector<bool>& needed) {
  ScalarType dtype = dtype_of<T>();
  bool need_mask = needed[3] && mask.has_value();
  Tensor grad_input = needed[0] ? empty_as(input, sizes_of(input), input.scalar_type()) : no_gradient(input);
  Tensor grad_offset = needed[1] ? empty_as(offset, sizes_of(offset), dtype) : no_gradient(offset);
  Tensor grad_weight = needed[2] ? st::empty(sizes_of(weight), weight.scalar_type()) : no_gradient(weight);
  Tensor grad_mask = need_mask ? empty_as(*mask, sizes_of(*mask), dtype) : no_gradient(offset);
  if (s.n * s.positions() == 0) {
    for (Tensor* gradient : {&grad_input, &grad_weight}) st::zero_(*gradient);
    return {grad_input, st::to(grad_offset, offset.scalar_type()), grad_weight, grad_mask};
  }

  Packed<T> p = make_problem<T>(s, input, offset, mask, false);
  Tensor packed_weight = pack_weight(p, weight, false);
  p.weight_backward = data<T>(packed_weight);
  Tensor packed_output = grad_output;
  if (grad_output.scalar_type() != dtype || p.outputs != s.co || !is_channels_last(grad_output)) {
    packed_output = p.outputs == s.co ? workspace<T>(s.n * s.positions() * p.outputs)
                                      : zero_workspace<T>(s.n * s.positions() * p.outputs);
    Pixels rows{0, s.positions() * p.outputs, 0, s.wo * p.outputs, p.outputs, s.co};
    pack(with_planes(grad_output), rows, data<T>(packed_output));
  }
  p.grad_output = data<T>(packed_output);
  if (needed[1]) p.grad_offset = planes<T>(grad_offset);
  if (need_mask) p.grad_mask = planes<T>(grad_mask);

  int64_t blocks = (s.positions() + kBlock - 1) / kBlock;
  int64_t parts = count_parts(s.n * p.slabs, blocks);
  int64_t weight_size = s.taps() * p.channels * p.outputs;
  Tensor packed_grad_input = zero_workspace<T>(needed[0] ? parts * s.n * s.offset_groups * p.frame().size : 0);
  Tensor packed_grad_weight = zero_workspace<T>(needed[2] ? parts * s.n * weight_size : 0);
  p.grad_input = needed[0] ? data<T>(packed_grad_input) : nullptr;
  p.grad_weight = needed[2] ? data<T>(packed_grad_weight) : nullptr;

  Kernels<T> kernels = choose_kernels<T>();
  st::parallel_for(0, parts * s.n * p.slabs, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch(p.slab_channels(), kPanel, p.slab_groups * s.taps());
    for (int64_t i = begin; i < end; i++) {
      int64_t slab = i % p.slabs, n = i / p.slabs % s.n, part = i / p.slabs / s.n;
      for (int64_t block = blocks * part / parts; block < blocks * (part + 1) / parts; block++)
        kernels.backward(p, part, n, slab, block * kBlock, std::min(kBlock, s.positions() - block * kBlock), scratch);
    }
  });

  if (needed[0]) unpack(p.grad_input, parts, p.frame().pixels(s, p.group_channels), grad_input);
  if (needed[2]) {
    T* sum = p.grad_weight;
    st::parallel_for(0, weight_size, 16384, [&](int64_t begin, int64_t end) {
      for (int64_t k = 1; k < parts * s.n; k++)
        for (int64_t i = begin; i < end; i++) sum[i] += sum[k * weight_size + i];
    });
    with_type(weight.scalar_type(), [&](auto tag) {
      using To = decltype(tag);
      To* to = data<To>(grad_weight);
      visit_weight(p, false, [&](int64_t i, int64_t j) { to[i] = static_cast<To>(sum[j]); });
    });
  }
  if (needed[1]) grad_offset = st::to(grad_offset, offset.scalar_type());
  if (need_mask) grad_mask = st::to(grad_mask, mask->scalar_type());
  return {grad_input, grad_offset, grad_weight, grad_mask};
}

Tensor deform_conv2d(const Tensor& input, const Tensor& offset, const Tensor& weight, std::optional<Tensor> bias,
                     std::optional<Tensor> mask, Pair stride, Pair padding, Pair dilation) {
  Shape s = make_shape(input, offset, weight, bias, mask, stride, padding, dilation);
  if (input.scalar_type() == ScalarType::Double) return forward<double>(s, input, offset, weight, bias, mask);
  if (computes_in_16_bits(s, input)) return forward_16bit(s, input, offset, weight, bias, mask);
  return forward<float>(s, input, offset, weight, bias, mask);
}

Gradients deform_conv2d_backward(const Tensor& grad_output, const Tensor& input, const Tensor& offset,
                                 const Tensor& weight, std::optional<Tensor> mask, Pair stride, Pair padding,
                                 Pair dilation, std::vector<bool> needed, bool /* deterministic: it always is */) {
  Shape s = make_shape(input, offset, weight, std::nullopt, mask, stride, padding, dilation);
  check_grad_output(s, input, grad_output, needed);
  if (input.scalar_type() == ScalarType::Double)
    return backward<double>(s, grad_output, input, offset, weight, mask, needed);
  if (computes_in_16_bits(s, input)) return backward_16bit(s, grad_output, input, offset, weight, mask, needed);
  return backward<float>(s, grad_output, input, offset, weight, mask, needed);
}

}  // namespace
}  // namespace vsr

STABLE_TORCH_LIBRARY_IMPL(vsr, CPU, m) {
  m.impl("deform_conv2d", TORCH_BOX(&vsr::deform_conv2d));
  m.impl("deform_conv2d_backward", TORCH_BOX(&vsr::deform_conv2d_backward));
}
