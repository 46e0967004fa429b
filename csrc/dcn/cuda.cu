// CUDA deformable convolution: columns of a chunk of positions by a kernel, then the matrix product by PyTorch's
// (cuBLAS).
//
// Features are worked on in channels_last; columns never take more than kColumnBytes, however large the frames are.
// Gradients of offset, mask and weight are written once; the input's is added with atomics, in fixed point when it must
// be deterministic.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "cuda_kernels.cuh"
#include "shape.h"

namespace vsr {
namespace {

namespace st = torch::stable;

constexpr int64_t kColumnBytes = int64_t{256} << 20;
constexpr int kThreads = 256;

template <typename T>
struct Accumulator {
  using type = float;
  static constexpr ScalarType dtype = ScalarType::Float;
};
template <>
struct Accumulator<double> {
  using type = double;
  static constexpr ScalarType dtype = ScalarType::Double;
};

cudaStream_t current_stream(const Tensor& x) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Starts a kernel that loops with the stride of all its threads, so that any number of threads is correct.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t threads, cudaStream_t stream, const Arguments&... arguments) {
  int blocks = static_cast<int>(std::min<int64_t>((threads + kThreads - 1) / kThreads, 1 << 20));
  kernel<<<blocks, kThreads, 0, stream>>>(arguments...);
  cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, "deform_conv2d: ", cudaGetErrorString(error));
}

template <typename T>
T* data(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

template <typename T>
Strided<T> strided(const Tensor& x) {
  return {static_cast<T*>(x.data_ptr()), x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}

Tensor empty_like_device(const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype) {
  return st::empty(sizes, dtype, std::nullopt, like.device());
}

Tensor slice(Tensor x, int64_t axis, int64_t first, int64_t count) { return st::narrow(x, axis, first, count); }

// out = a b. The stable ABI cannot carry the Scalar arguments of addmm.
void mm_out(Tensor out, const Tensor& a, const Tensor& b) {
  StableIValue stack[3] = {st::detail::from(a), st::detail::from(b), st::detail::from(out)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "out", stack, TORCH_ABI_VERSION));
  st::detail::to<Tensor>(stack[0]);
}

// The largest absolute value, on the device.
Tensor largest(const Tensor& x) {
  StableIValue stack[1] = {st::detail::from(x)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::abs", "", stack, TORCH_ABI_VERSION));
  Tensor magnitude = st::detail::to<Tensor>(stack[0]);
  return st::amax(st::reshape(magnitude, {magnitude.numel()}), 0);
}

CudaShape cuda_shape(const Shape& s) {
  return {s.c,        s.h,        s.w,         s.ho,        s.wo,         s.kh,         s.kw,
          s.stride_h, s.stride_w, s.padding_h, s.padding_w, s.dilation_h, s.dilation_w, s.offset_groups,
          s.groups};
}

// A tensor (n, c, h, w) as (n * h * w, c).
Tensor rows_of(const Tensor& x) {
  Tensor last = st::transpose(st::transpose(x, 1, 2), 2, 3);
  return st::reshape(last, {x.size(0) * x.size(2) * x.size(3), x.size(1)});
}

// The weight (co, c / groups, kh, kw) as (co, taps * c / groups), in the order of the columns.
Tensor weight_rows(const Shape& s, const Tensor& weight) {
  Tensor taps_inside = st::reshape(weight, {s.co, s.c / s.groups, s.taps()});
  return st::reshape(st::transpose(taps_inside, 1, 2), {s.co, s.taps() * (s.c / s.groups)});
}

// What both passes start from. Tensors that had to be converted live here.
template <typename T>
struct Inputs {
  using Acc = typename Accumulator<T>::type;
  CudaShape shape;
  Tensor input, offset, mask, weight;
  Strided<const Acc> offset_view, mask_view{};
  int64_t positions, columns, chunk;
  cudaStream_t stream;

  Inputs(const Shape& s, const Tensor& input_, const Tensor& offset_, const Tensor& weight_,
         const std::optional<Tensor>& mask_)
      : shape(cuda_shape(s)),
        input(st::contiguous(input_, MemoryFormat::ChannelsLast)),
        offset(st::to(offset_, Accumulator<T>::dtype)),
        weight(weight_rows(s, weight_)),
        offset_view(strided<const Acc>(offset)),
        positions(s.n * s.positions()),
        columns(s.c * s.taps()),
        chunk(std::clamp<int64_t>(kColumnBytes / (columns * sizeof(T)), 1, std::max<int64_t>(positions, 1))),
        stream(current_stream(input_)) {
    if (mask_) mask = st::to(*mask_, Accumulator<T>::dtype), mask_view = strided<const Acc>(mask);
  }

  void sample(int64_t first, int64_t count, const Tensor& to) const {
    int64_t threads = count * shape.offset_groups * shape.taps();
    launch(columns_kernel<T, Acc>, threads, stream, shape, first, count, data<const T>(input), offset_view, mask_view,
           data<T>(to));
  }
};

template <typename T>
Tensor forward(const Shape& s, const Tensor& input, const Tensor& offset, const Tensor& weight,
               const std::optional<Tensor>& bias, const std::optional<Tensor>& mask) {
  using Acc = typename Accumulator<T>::type;
  Tensor output = empty_as(input, {s.n, s.co, s.ho, s.wo}, input.scalar_type());
  if (output.numel() == 0) return output;
  Inputs<T> in(s, input, offset, weight, mask);
  Tensor rows = empty_like_device(input, {in.positions, s.co}, input.scalar_type());
  Tensor columns = empty_like_device(input, {in.chunk, in.columns}, input.scalar_type());
  int64_t read = in.columns / s.groups, written = s.co / s.groups;
  for (int64_t first = 0; first < in.positions; first += in.chunk) {
    int64_t count = std::min(in.chunk, in.positions - first);
    in.sample(first, count, columns);
    Tensor from = slice(columns, 0, 0, count), to = slice(rows, 0, first, count);
    for (int64_t g = 0; g < s.groups; g++)
      mm_out(slice(to, 1, g * written, written), slice(from, 1, g * read, read),
             st::transpose(slice(in.weight, 0, g * written, written), 0, 1));
  }
  std::optional<Tensor> dense_bias;
  if (bias) dense_bias = st::contiguous(*bias);
  launch(finish_kernel<T, Acc>, output.numel(), in.stream, data<const T>(rows),
         dense_bias ? data<const T>(*dense_bias) : nullptr, strided<T>(output), s.co, s.ho, s.wo, output.numel());
  return output;
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Calls gradients_kernel for every chunk with the gradients of its columns, and adds up the weight's gradient.
template <typename T, typename Add>
Tensor run_backward(const Shape& s, const Inputs<T>& in, const Tensor& grad_rows, bool need_input, bool need_weight,
                    Add add, Strided<typename Inputs<T>::Acc> grad_offset, Strided<typename Inputs<T>::Acc> grad_mask) {
  using Acc = typename Inputs<T>::Acc;
  ScalarType dtype = in.input.scalar_type();
  int64_t read = in.columns / s.groups, written = s.co / s.groups;
  Tensor grad_weight = empty_like_device(in.input, {s.co, read}, Accumulator<T>::dtype);
  st::zero_(grad_weight);
  Tensor part = empty_like_device(in.input, {s.co, read}, dtype);
  Tensor columns = empty_like_device(in.input, {in.chunk, in.columns}, dtype);
  for (int64_t first = 0; first < in.positions; first += in.chunk) {
    int64_t count = std::min(in.chunk, in.positions - first), threads = count * s.offset_groups * s.taps();
    Tensor rows = slice(grad_rows, 0, first, count), chunk = slice(columns, 0, 0, count);
    for (int64_t g = 0; g < s.groups; g++)
      mm_out(slice(chunk, 1, g * read, read), slice(rows, 1, g * written, written),
             slice(in.weight, 0, g * written, written));
    launch(gradients_kernel<T, Acc, Add>, threads, in.stream, in.shape, first, count, data<const T>(in.input),
           in.offset_view, in.mask_view, data<const T>(columns), need_input, add, grad_offset, grad_mask);
    if (!need_weight) continue;
    in.sample(first, count, columns);
    for (int64_t g = 0; g < s.groups; g++)
      mm_out(slice(part, 0, g * written, written), st::transpose(slice(rows, 1, g * written, written), 0, 1),
             slice(chunk, 1, g * read, read));
    launch(add_kernel<T, Acc>, part.numel(), in.stream, data<Acc>(grad_weight), data<const T>(part), part.numel());
  }
  return grad_weight;
}

template <typename T>
Gradients backward(const Shape& s, const Tensor& grad_output, const Tensor& input, const Tensor& offset,
                   const Tensor& weight, const std::optional<Tensor>& mask, const std::vector<bool>& needed,
                   bool deterministic) {
  using Acc = typename Accumulator<T>::type;
  constexpr ScalarType dtype = Accumulator<T>::dtype;
  bool need_mask = needed[3] && mask.has_value();
  Tensor grad_offset = needed[1] ? empty_as(offset, sizes_of(offset), dtype) : no_gradient(offset);
  Tensor grad_mask = need_mask ? empty_as(*mask, sizes_of(*mask), dtype) : no_gradient(offset);
  Tensor grad_input = needed[0] ? st::empty(sizes_of(input), dtype, std::nullopt, input.device(), std::nullopt,
                                            MemoryFormat::ChannelsLast)
                                : no_gradient(input);
  if (needed[0]) st::zero_(grad_input);
  Inputs<T> in(s, input, offset, weight, mask);
  Tensor grad_rows = rows_of(grad_output);
  Strided<Acc> offset_view{}, mask_view{};
  if (needed[1]) offset_view = strided<Acc>(grad_offset);
  if (need_mask) mask_view = strided<Acc>(grad_mask);

  Tensor sum;
  if (needed[0] && deterministic && in.positions > 0) {
    Tensor fixed = empty_like_device(input, {input.numel()}, ScalarType::Long),
           scale = empty_like_device(input, {1}, ScalarType::Double);
    st::zero_(fixed);
    Tensor by_output = largest(grad_rows), by_weight = largest(in.weight), by_mask;
    if (mask) by_mask = largest(in.mask);
    double terms = double(s.co / s.groups) * s.taps() * s.positions();
    launch(scale_kernel<T, Acc>, 1, in.stream, data<const T>(by_output), data<const T>(by_weight),
           mask ? data<const Acc>(by_mask) : nullptr, terms, data<double>(scale));
    auto cells = static_cast<unsigned long long*>(fixed.data_ptr());
    sum = run_backward<T>(s, in, grad_rows, true, needed[2], AddInFixedPoint<Acc>{cells, data<const double>(scale)},
                          offset_view, mask_view);
    launch(from_fixed_point_kernel<Acc>, input.numel(), in.stream, cells, data<const double>(scale),
           data<Acc>(grad_input), input.numel());
  } else {
    Acc* cells = needed[0] ? data<Acc>(grad_input) : nullptr;
    sum = run_backward<T>(s, in, grad_rows, needed[0], needed[2], AddAtomically<Acc>{cells}, offset_view, mask_view);
  }

  Tensor grad_weight = no_gradient(weight);
  if (needed[2]) {
    Tensor taps_inside = st::transpose(st::reshape(sum, {s.co, s.taps(), s.c / s.groups}), 1, 2);
    grad_weight = st::reshape(st::contiguous(st::to(taps_inside, weight.scalar_type())), sizes_of(weight));
  }
  if (needed[0]) {
    auto format = layout_of(input);
    grad_input = st::contiguous(st::to(grad_input, input.scalar_type()), format);
  }
  if (needed[1]) grad_offset = st::to(grad_offset, offset.scalar_type());
  if (need_mask) grad_mask = st::to(grad_mask, mask->scalar_type());
  return {grad_input, grad_offset, grad_weight, grad_mask};
}

Tensor deform_conv2d(const Tensor& input, const Tensor& offset, const Tensor& weight, std::optional<Tensor> bias,
                     std::optional<Tensor> mask, Pair stride, Pair padding, Pair dilation) {
  Shape s = make_shape(input, offset, weight, bias, mask, stride, padding, dilation);
  st::accelerator::DeviceGuard guard(input.get_device_index());
  return with_type(input.scalar_type(),
                   [&](auto tag) { return forward<decltype(tag)>(s, input, offset, weight, bias, mask); });
}

Gradients deform_conv2d_backward(const Tensor& grad_output, const Tensor& input, const Tensor& offset,
                                 const Tensor& weight, std::optional<Tensor> mask, Pair stride, Pair padding,
                                 Pair dilation, std::vector<bool> needed, bool deterministic) {
  Shape s = make_shape(input, offset, weight, std::nullopt, mask, stride, padding, dilation);
  check_grad_output(s, input, grad_output, needed);
  st::accelerator::DeviceGuard guard(input.get_device_index());
  return with_type(input.scalar_type(), [&](auto tag) {
    return backward<decltype(tag)>(s, grad_output, input, offset, weight, mask, needed, deterministic);
  });
}

}  // namespace
}  // namespace vsr

STABLE_TORCH_LIBRARY_IMPL(vsr, CUDA, m) {
  m.impl("deform_conv2d", TORCH_BOX(&vsr::deform_conv2d));
  m.impl("deform_conv2d_backward", TORCH_BOX(&vsr::deform_conv2d_backward));
}
