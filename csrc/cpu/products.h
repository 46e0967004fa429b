// Products of matrices whose factors are float32 or pairs of bfloat16, and conversions between the two. The files of
// kernels include this one once per instruction set. A word of 32 bits holds the factors of one multiplication, which
// adds their products: a float, or two numbers of bfloat16.

constexpr int kLanes = VSR_VECTOR_BYTES / 4;
#if VSR_VECTOR_BYTES == 64
constexpr int kRegisters = 4, kRows = 6;  // of sums: 24 of the 32 registers
#else
constexpr int kRegisters = 2, kRows = 4;  // 8 of 16
#endif
typedef typename Vector<float>::Wide Floats;
typedef uint32_t Words __attribute__((vector_size(VSR_VECTOR_BYTES), aligned(4), may_alias));
typedef uint32_t PairsOfHalves __attribute__((vector_size(VSR_VECTOR_BYTES), aligned(2), may_alias));
typedef uint16_t Halves __attribute__((vector_size(VSR_VECTOR_BYTES / 2), aligned(2), may_alias));

// Features to float32 and back.
VSR_INLINE Floats load(const float* p) { return wide(p); }
VSR_INLINE void store(float* p, Floats x) { wide(p) = x; }
VSR_INLINE Floats load(const Bits16* p) {
  return (Floats)(__builtin_convertvector(*(const Halves*)p, Words) << 16);
}
#if defined(VSR_AVX512_BF16) && VSR_VECTOR_BYTES == 64
VSR_INLINE void store(Bits16* p, Floats x) { *(__m256i_u*)p = (__m256i)_mm512_cvtneps_pbh((__m512)x); }
VSR_INLINE Words pairs(Floats low, Floats high) {
  const Words first = {0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007,
                       0x180008, 0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f};
  return (Words)_mm512_permutexvar_epi16((__m512i)first, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}
#else
VSR_INLINE Words rounded(Floats x) {
  Words bits = (Words)x, nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return x == x ? nearest : (bits >> 16 | 0x40);  // a NaN stays one
}
VSR_INLINE void store(Bits16* p, Floats x) { *(Halves*)p = __builtin_convertvector(rounded(x), Halves); }
VSR_INLINE Words pairs(Floats low, Floats high) { return rounded(low) | rounded(high) << 16; }
#endif
VSR_INLINE Floats low(Words pairs) { return (Floats)(pairs << 16); }
VSR_INLINE Floats high(Words pairs) { return (Floats)(pairs & 0xffff0000u); }

// The first `count` of a register's numbers, where memory may hold no more.
template <typename T>
VSR_INLINE Floats load_some(const T* p, int64_t count) {
  if (count >= kLanes) return load(p);
  T all[kLanes] = {};
  for (int64_t i = 0; i < count; i++) all[i] = p[i];
  return load(all);
}
VSR_INLINE Words load_some_pairs(const Bits16* p, int64_t count) {
  if (count >= 2 * kLanes) return *(const PairsOfHalves*)p;
  Bits16 all[2 * kLanes] = {};
  for (int64_t i = 0; i < count; i++) all[i] = p[i];
  return *(const PairsOfHalves*)all;
}
template <typename T>
VSR_INLINE void store_some(T* p, Floats x, int64_t count) {
  if (count >= kLanes) return store(p, x);
  T all[kLanes];
  store(all, x);
  for (int64_t i = 0; i < count; i++) p[i] = all[i];
}

// Words of factors that are multiplied together.
VSR_INLINE void store_words(float* p, const Floats (&x)[1]) { store(p, x[0]); }
VSR_INLINE void store_words(uint32_t* p, const Floats (&x)[2]) { *(Words*)p = pairs(x[0], x[1]); }

// sum += factor · words.
VSR_INLINE void multiply(Floats& sum, float factor, Floats words) { sum += factor * words; }
#if defined(VSR_AVX512_BF16) && VSR_VECTOR_BYTES == 64
VSR_INLINE void multiply(Floats& sum, uint32_t factor, Words words) {
  sum = (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)factor), (__m512bh)words);
}
#else
VSR_INLINE void multiply(Floats& sum, uint32_t factor, Words words) {
  Words both = factor - Words{};
  sum += low(both) * low(words);
  sum += high(both) * high(words);
}
#endif

// sums (Rows, Registers) = or += Σ over words k of a[row, k] · b[k].
template <int Rows, int Registers, bool Add, typename Word>
static void multiply_block(const Word* a, int64_t row, int64_t word, const Word* b, int64_t line, int64_t depth,
                           float* to, int64_t width) {
  Floats sums[Rows][Registers];
#pragma GCC unroll 6
  for (int r = 0; r < Rows; r++)
#pragma GCC unroll 4
    for (int i = 0; i < Registers; i++) sums[r][i] = Add ? load(to + r * width + i * kLanes) : Floats{};
  // Opaque steps: for those of one element GCC would make a second loop, and spill the sums in both.
  const char *at_a = (const char*)a, *at_b = (const char*)b;
  int64_t step_a = word * sizeof(Word), step_b = line * sizeof(Word);
  asm("" : "+r"(step_a), "+r"(step_b));
  for (int64_t k = 0; k < depth; k++, at_a += step_a, at_b += step_b) {
    typename Vector<Word>::Wide words[Registers];
#pragma GCC unroll 4
    for (int i = 0; i < Registers; i++) words[i] = wide((const Word*)at_b + i * kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < Rows; r++)
#pragma GCC unroll 4
      for (int i = 0; i < Registers; i++) multiply(sums[r][i], ((const Word*)at_a)[r * row], words[i]);
  }
#pragma GCC unroll 6
  for (int r = 0; r < Rows; r++)
#pragma GCC unroll 4
    for (int i = 0; i < Registers; i++) store(to + r * width + i * kLanes, sums[r][i]);
}

template <int Registers, bool Add, typename Word>
static void multiply_rows(const Word* a, int64_t rows, int64_t row, int64_t word, const Word* b, int64_t line,
                          int64_t depth, float* to, int64_t width) {
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    multiply_block<kRows, Registers, Add>(a + r * row, row, word, b, line, depth, to + r * width, width);
  for (; r + 2 <= rows; r += 2)
    multiply_block<2, Registers, Add>(a + r * row, row, word, b, line, depth, to + r * width, width);
  for (; r < rows; r++)
    multiply_block<1, Registers, Add>(a + r * row, row, word, b, line, depth, to + r * width, width);
}

// to (rows, width) = or += a (rows, depth) · b (depth, width). An element of a is at row * i + word * k, a line of b
// at line * k; width is that of a panel.
template <bool Add, typename Word>
static void multiply_panel(const Word* a, int64_t rows, int64_t row, int64_t word, const Word* b, int64_t line,
                           int64_t depth, float* to, int64_t width) {
  switch (width / kLanes) {
    case 1:
      return multiply_rows<1, Add>(a, rows, row, word, b, line, depth, to, width);
    case 2:
      return multiply_rows<2, Add>(a, rows, row, word, b, line, depth, to, width);
#if VSR_VECTOR_BYTES == 64
    case 3:
      return multiply_rows<3, Add>(a, rows, row, word, b, line, depth, to, width);
    case 4:
      return multiply_rows<4, Add>(a, rows, row, word, b, line, depth, to, width);
#endif
  }
}
