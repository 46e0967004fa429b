// Memory buffers of the CPU kernels.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>

#include "../tensors.h"

namespace vsr {

// Zeroed memory on cache-line boundaries.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size) : data_(static_cast<T*>(std::aligned_alloc(64, (size * sizeof(T) + 127) / 64 * 64))) {
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_, 0, size * sizeof(T));
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return data_; }

 private:
  T* data_;
};

// The dtype in which a kernel computes.
template <typename T>
constexpr ScalarType dtype_of() {
  return std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
}

template <typename T>
T* data(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

}  // namespace vsr
