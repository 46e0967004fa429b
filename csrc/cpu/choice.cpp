#include "choice.h"

#include <torch/headeronly/util/Exception.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <string>

namespace vsr {

namespace {

struct Limit {
  std::string set;  // empty is any
  bool in_16_bits;
};

Limit asked_for() {
  const char* asked = std::getenv("VSR_CPU_ISA");
  std::string all = asked == nullptr ? "" : asked, set = all.substr(0, all.find('+'));
  bool has_suffix = set.size() < all.size();
  STD_TORCH_CHECK(all.empty() || ((set == "portable" || set == "avx2" || set == "avx512") &&
                                  (!has_suffix || all.substr(set.size()) == "+bf16")),
                  "VSR_CPU_ISA=", all, ": expected one of portable, avx2, avx512, with or without +bf16, or nothing");
  return {set, has_suffix};
}

#if defined(__x86_64__)
// A bit of the answer (eax, ebx, ecx, edx) to CPUID 7, whose names compilers know since different versions.
bool has_feature(unsigned subleaf, int reg, int bit) {
  unsigned answer[4] = {};
  return __get_cpuid_count(7, subleaf, &answer[0], &answer[1], &answer[2], &answer[3]) && (answer[reg] >> bit & 1);
}
#endif

}  // namespace

InstructionSet widest_instruction_set() {
  std::string limit = asked_for().set;
#if defined(__x86_64__)
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
  bool has_bf16 = has_avx512 && __builtin_cpu_supports("avx512bw") && has_feature(1, 0, 5);
  bool is_any = limit.empty() || limit == "avx512";
  if (has_bf16 && is_any) return InstructionSet::kAvx512Bf16;
  if (has_avx512 && is_any) return InstructionSet::kAvx512;
  if (has_avx2 && limit != "portable") return InstructionSet::kAvx2;
#endif
  return InstructionSet::kPortable;
}

bool multiplies_16_bits() {
  Limit limit = asked_for();
  return limit.in_16_bits || (limit.set.empty() && widest_instruction_set() == InstructionSet::kAvx512Bf16);
}

bool vectors_multiply_16_bits() {
#if defined(__x86_64__)
  bool has_amx = has_feature(0, 3, 22) && has_feature(0, 3, 24);  // amx_bf16, amx_tile
  return widest_instruction_set() == InstructionSet::kAvx512Bf16 && !has_amx;
#else
  return false;
#endif
}

}  // namespace vsr
