// Compiles the kernels in the file VSR_KERNELS once per instruction set, each time in another namespace and with another
// VSR_VECTOR_BYTES, and picks among them at run time. Included by an operator's cpu.cpp inside its own namespace, after
// a template Kernels<T> of function pointers; VSR_KERNELS defines kernels<T>(), which fills it.
//
// No standard header may be included by VSR_KERNELS: its functions would be compiled for one instruction set and, as
// inline functions, be called on machines without it.

namespace portable {  // SSE2 on x86-64, NEON on aarch64
#define VSR_VECTOR_BYTES 16
#include "vectors.h"
#include VSR_KERNELS
#undef VSR_INLINE
#undef VSR_VECTOR_BYTES
}  // namespace portable

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define VSR_VECTOR_BYTES 32
#include "vectors.h"
#include VSR_KERNELS
#undef VSR_INLINE
#undef VSR_VECTOR_BYTES
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma")
#endif
namespace avx512 {
#define VSR_VECTOR_BYTES 64
#include "vectors.h"
#include VSR_KERNELS
#undef VSR_INLINE
#undef VSR_VECTOR_BYTES
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __x86_64__

// The widest instruction set of this machine; VSR_CPU_ISA=portable|avx2|avx512 asks for a narrower one (tests,
// comparisons).
template <typename T>
Kernels<T> choose_kernels() {
  const char* asked = std::getenv("VSR_CPU_ISA");
  std::string limit = asked == nullptr || *asked == '\0' ? "avx512" : asked;
  STD_TORCH_CHECK(limit == "portable" || limit == "avx2" || limit == "avx512", "VSR_CPU_ISA=", limit,
                  ": expected one of portable, avx2, avx512, or nothing");
#if defined(__x86_64__)
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
  if (has_avx512 && limit == "avx512") return avx512::kernels<T>();
  if (has_avx2 && limit != "portable") return avx2::kernels<T>();
#endif
  return portable::kernels<T>();
}
