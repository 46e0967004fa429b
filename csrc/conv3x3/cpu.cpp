// CPU convolution of 3×3 taps, stride 1 and padding 1, by Winograd's method. It computes in channels-last order; features
// in another one are copied.
//
// Blocks of tiles are shared among the threads. In the backward pass each thread adds the weight's gradient up in a part
// of its own, and the parts are summed in order: results do not depend on timing.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../cpu/choice.h"
#include "cpu_problem.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vsr::conv3x3 {

#define VSR_KERNELS "../conv3x3/cpu_kernels.h"
#include "../cpu/instruction_sets.h"

namespace bits16 {
#define VSR_AVX512_BF16
#include "../cpu/instruction_sets.h"
}  // namespace bits16

namespace {

namespace st = torch::stable;

template <typename T>
Kernels<T> kernels_of() {
  if constexpr (std::is_same_v<T, Bits16>) return bits16::choose_kernels<T>();
  return choose_kernels<T>();
}

// Users see the messages of vsr/ops; these checks keep a direct call of the op from reading out of bounds.
void check(const Tensor& input, const Tensor& weight) {
  STD_TORCH_CHECK(input.dim() == 4 && weight.dim() == 4, "input and weight must have 4 dimensions");
  STD_TORCH_CHECK(weight.size(1) == input.size(1) && weight.size(2) == 3 && weight.size(3) == 3,
                  "weight must be (outputs, channels of the input, 3, 3)");
  ScalarType dtype = input.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::BFloat16, "input must be float32 or bfloat16");
}

// A tensor whose channels are side by side, copied only if they are not.
Tensor channels_inside(const Tensor& x) {
  return x.stride(1) == 1 || x.size(1) == 1 ? x : st::contiguous(x, MemoryFormat::ChannelsLast);
}

template <typename T>
Features<T> features(const Tensor& x) {
  return {static_cast<T*>(x.data_ptr()), x.size(0), x.size(1), x.size(2), x.size(3), x.stride(0), x.stride(2), x.stride(3)};
}

Tensor empty_inside(std::vector<int64_t> sizes, ScalarType dtype) {
  return st::empty(sizes, dtype, {}, {}, {}, MemoryFormat::ChannelsLast);
}

// A result in the memory format of `like`.
Tensor in_layout_of(const Tensor& like, const Tensor& x) {
  return layout_of(like) == MemoryFormat::ChannelsLast ? x : st::contiguous(x);
}

template <typename T>
Tensor memory(int64_t size) {
  return st::empty({size * int64_t(sizeof(T))}, ScalarType::Byte);
}

// Tiles of a block, so that every thread has some blocks.
template <typename T>
int64_t block_of(int64_t tiles) {
  int64_t share = round_up(tiles / (4 * st::get_num_threads()) + 1, 12);
  return std::min(Method<T>::kBlock, share);
}

// Of `in` with the weight and bias, into `out`.
template <typename T>
void convolve(const Kernels<T>& kernels, const Tensor& in, const Weight& weight, const float* bias, const Tensor& out) {
  typedef typename Method<T>::Word Word;
  const Sizes<T> sizes(weight.channels, weight.outputs, kernels.lanes, kernels.panel_registers);
  const Features<const T> from = features<const T>(in);
  const Features<T> to = features<T>(out);
  const int64_t tiles = Tiles<T>(to).count, block = block_of<T>(tiles);
  if (tiles == 0) return;
  Tensor points = memory<Word>(sizes.weight()), added = memory<float>(sizes.outputs);
  st::fill_(added, 0);
  if (bias != nullptr) std::copy(bias, bias + weight.outputs, data<float>(added));
  st::parallel_for(0, sizes.outputs / kernels.lanes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) kernels.weights(weight, sizes, i * kernels.lanes, data<Word>(points));
  });
  st::parallel_for(0, (tiles + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
    Buffer<T> pixels(kPoints<T> * sizes.pixels_of_point());
    Buffer<float> products(kPoints<T> * sizes.products_of_point());
    for (int64_t i = begin; i < end; i++)
      kernels.convolve(sizes, from, data<Word>(points), data<float>(added), to, i * block,
                       std::min(block, tiles - i * block), pixels.get(), products.get());
  });
}

template <typename T>
Tensor forward(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias) {
  Tensor in = channels_inside(input), dense = st::contiguous(st::to(weight, ScalarType::Float));
  Tensor out = empty_inside({input.size(0), weight.size(0), input.size(2), input.size(3)}, input.scalar_type());
  std::optional<Tensor> added;
  if (bias) added = st::contiguous(st::to(*bias, ScalarType::Float));
  const int64_t outputs = weight.size(0), channels = weight.size(1);
  const Weight taps{data<float>(dense), outputs, channels, channels * 9, 9, false};
  convolve(kernels_of<T>(), in, taps, added ? data<float>(*added) : nullptr, out);
  return in_layout_of(input, out);
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& input, const Tensor& weight,
                                            const std::vector<bool>& needed) {
  const Kernels<T> kernels = kernels_of<T>();
  const int64_t outputs = weight.size(0), channels = weight.size(1);
  Tensor gradient = channels_inside(grad_output);
  Tensor grad_input = no_gradient(input), grad_weight = no_gradient(weight), grad_bias = no_gradient(weight);
  if (needed[0]) {
    Tensor dense = st::contiguous(st::to(weight, ScalarType::Float));
    grad_input = empty_inside(sizes_of(input), input.scalar_type());
    convolve(kernels, gradient, {data<float>(dense), channels, outputs, 9, channels * 9, true}, nullptr, grad_input);
    grad_input = in_layout_of(input, grad_input);
  }
  if (!needed[1] && !needed[2]) return {grad_input, grad_weight, grad_bias};

  Tensor in = channels_inside(input);
  const Sizes<T> sizes(channels, outputs, kernels.lanes, kernels.panel_registers);
  const Features<const T> from = features<const T>(in), by = features<const T>(gradient);
  const int64_t tiles = Tiles<const T>(from).count, block = Method<T>::kBlock, blocks = (tiles + block - 1) / block;
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(blocks, st::get_num_threads()));
  const int64_t part = kPoints<T> * sizes.channels * sizes.outputs;
  Tensor points = memory<float>(parts * part), sums = memory<float>(parts * sizes.outputs);
  st::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    Buffer<T> pixels(kPoints<T> * sizes.pixels_of_point()), gradients(kPoints<T> * sizes.gradients_of_point());
    for (int64_t i = begin; i < end; i++) {
      float *weights = data<float>(points) + i * part, *biases = data<float>(sums) + i * sizes.outputs;
      std::fill(weights, weights + part, 0.f), std::fill(biases, biases + sizes.outputs, 0.f);
      for (int64_t k = blocks * i / parts; k < blocks * (i + 1) / parts; k++)
        kernels.add_gradients(sizes, from, by, k * block, std::min(block, tiles - k * block), pixels.get(),
                              gradients.get(), weights, biases);
    }
  });
  grad_weight = st::empty(sizes_of(weight), ScalarType::Float), grad_bias = st::empty({outputs}, ScalarType::Float);
  st::parallel_for(0, channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++)
      kernels.taps(sizes, data<float>(points), parts, c, outputs, channels, data<float>(grad_weight));
  });
  for (int64_t o = 0; o < outputs; o++) {
    data<float>(grad_bias)[o] = 0;
    for (int64_t i = 0; i < parts; i++) data<float>(grad_bias)[o] += data<float>(sums)[i * sizes.outputs + o];
  }
  return {grad_input, st::to(grad_weight, weight.scalar_type()), st::to(grad_bias, weight.scalar_type())};
}

Tensor conv3x3(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias) {
  check(input, weight);
  STD_TORCH_CHECK(!bias || (bias->dim() == 1 && bias->size(0) == weight.size(0)), "bias must be (outputs,)");
  return input.scalar_type() == ScalarType::Float ? forward<float>(input, weight, bias)
                                                  : forward<Bits16>(input, weight, bias);
}

std::tuple<Tensor, Tensor, Tensor> conv3x3_backward(const Tensor& grad_output, const Tensor& input,
                                                    const Tensor& weight, std::vector<bool> needed) {
  check(input, weight);
  STD_TORCH_CHECK(grad_output.scalar_type() == input.scalar_type() && needed.size() == 3 &&
                      sizes_of(grad_output) ==
                          std::vector<int64_t>({input.size(0), weight.size(0), input.size(2), input.size(3)}),
                  "grad_output must be like the output");
  return input.scalar_type() == ScalarType::Float ? backward<float>(grad_output, input, weight, needed)
                                                  : backward<Bits16>(grad_output, input, weight, needed);
}

}  // namespace
}  // namespace vsr::conv3x3

STABLE_TORCH_LIBRARY_IMPL(vsr, CPU, m) {
  m.impl("conv3x3", TORCH_BOX(&vsr::conv3x3::conv3x3));
  m.impl("conv3x3_backward", TORCH_BOX(&vsr::conv3x3::conv3x3_backward));
}
