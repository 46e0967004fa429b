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
#if defined(VSR_AVX512_BF16)  // the widest kernels need this extension of AVX-512, too
#define VSR_AVX512 "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,avx2,fma"
constexpr InstructionSet kWidest = InstructionSet::kAvx512Bf16;
#else
#define VSR_AVX512 "avx512f,avx512dq,avx512vl,avx2,fma"
constexpr InstructionSet kWidest = InstructionSet::kAvx512;
#endif
#define VSR_PRAGMA(x) _Pragma(#x)
#define VSR_GCC_TARGET(x) VSR_PRAGMA(GCC target(x))
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
#pragma clang attribute push(__attribute__((target(VSR_AVX512))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
VSR_GCC_TARGET(VSR_AVX512)
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
#undef VSR_AVX512
#endif  // __x86_64__

// The kernels for the widest instruction set that this machine has and VSR_CPU_ISA allows.
template <typename T>
Kernels<T> choose_kernels() {
#if defined(__x86_64__)
  InstructionSet widest = widest_instruction_set();
  if (widest >= kWidest) return avx512::kernels<T>();
  if (widest >= InstructionSet::kAvx2) return avx2::kernels<T>();
#endif
  return portable::kernels<T>();
}
