// The operators' schemas, so that a program made by torch.export needs this library only, without Python code of vsr.
// They are those of vsr/ops/*/op.py, which defines them where this library is missing.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(vsr, m) {
  m.def(
      "deform_conv2d(Tensor input, Tensor offset, Tensor weight, Tensor? bias, Tensor? mask, "
      "int[2] stride, int[2] padding, int[2] dilation) -> Tensor");
  m.def(
      "deform_conv2d_backward(Tensor grad_output, Tensor input, Tensor offset, Tensor weight, Tensor? mask, "
      "int[2] stride, int[2] padding, int[2] dilation, bool[4] needed, bool deterministic) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def("conv3x3(Tensor input, Tensor weight, Tensor? bias) -> Tensor");
  m.def(
      "conv3x3_backward(Tensor grad_output, Tensor input, Tensor weight, bool[3] needed) -> (Tensor, Tensor, Tensor)");
  m.def("local_window_read(Tensor query, Tensor keys, Tensor? values, Tensor? valid, int window) -> (Tensor, Tensor)");
  m.def(
      "local_window_read_backward(Tensor grad_read, Tensor query, Tensor keys, Tensor? values, Tensor? valid, "
      "Tensor log_sum, Tensor delta, int window, bool[3] needed) -> (Tensor, Tensor, Tensor)");
  m.def("flow_warp(Tensor x, Tensor flow, bool border) -> Tensor");
  m.def("flow_warp_backward(Tensor grad, Tensor x, Tensor flow, bool border, bool[2] needed) -> (Tensor, Tensor)");
}
