// Which kernels a machine runs.
#pragma once

namespace vsr {

enum class InstructionSet { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

// The widest instruction set of this machine; VSR_CPU_ISA=portable|avx2|avx512 asks for a narrower one (tests,
// comparisons).
InstructionSet widest_instruction_set();

// Whether the machine multiplies bfloat16 faster than float32, or VSR_CPU_ISA=…+bf16 asks to do as if; without
// +bf16 it asks to do as if not.
bool multiplies_16_bits();

// Whether our kernels multiply bfloat16 as fast as the machine can: it has instructions for vectors of them, and no AMX.
bool vectors_multiply_16_bits();

}  // namespace vsr
