// The numbers of a block of positions, out of a tensor of any layout to lines, a channel's numbers side by side, and
// back. Tensors store S, float, double or Bits16; lines are T. The files of kernels include this one once per
// instruction set, after cpu_sampling.h.

typedef uint16_t FourBits16 __attribute__((vector_size(8), aligned(2), may_alias));
typedef uint32_t FourWords __attribute__((vector_size(16)));

template <typename T>
VSR_INLINE T load_one(const T* p) {
  return *p;
}
VSR_INLINE float load_one(const Bits16* p) { return ((Octet<float>::Eight)(EightWords{uint32_t(p->bits) << 16}))[0]; }
template <typename T>
VSR_INLINE typename Quad<T>::Four load_four(const T* p) {
  return *(const typename Quad<T>::Four*)p;
}
VSR_INLINE Quad<float>::Four load_four(const Bits16* p) {
  return (Quad<float>::Four)(__builtin_convertvector(*(const FourBits16*)p, FourWords) << 16);
}
template <typename T>
VSR_INLINE void store_one(T* p, T x) {
  *p = x;
}
VSR_INLINE void store_one(Bits16* p, float x) {
  Bits16 all[8];
  store_eight(all, Octet<float>::Eight{x});
  *p = all[0];
}

template <typename T>
VSR_INLINE void transpose(const typename Quad<T>::Four in[4], typename Quad<T>::Four out[4]) {
  typedef typename Quad<T>::Four Four;
  Four a = VSR_SHUFFLE4(in[0], in[1], 0, 4, 1, 5), b = VSR_SHUFFLE4(in[2], in[3], 0, 4, 1, 5);
  Four c = VSR_SHUFFLE4(in[0], in[1], 2, 6, 3, 7), d = VSR_SHUFFLE4(in[2], in[3], 2, 6, 3, 7);
  out[0] = VSR_SHUFFLE4(a, b, 0, 1, 4, 5), out[1] = VSR_SHUFFLE4(a, b, 2, 3, 6, 7);
  out[2] = VSR_SHUFFLE4(c, d, 0, 1, 4, 5), out[3] = VSR_SHUFFLE4(c, d, 2, 3, 6, 7);
}

// Lines (channels, kPitch) of rows (count, channels) that are `row` apart.
template <typename T, typename S>
static void lines_of_rows(const S* rows, int64_t row, int64_t count, int64_t channels, T* lines) {
  typedef typename Quad<T>::Four Four;
  int64_t even_count = count / 4 * 4, even_channels = channels / 4 * 4;
  for (int64_t c = 0; c < even_channels; c += 4)
    for (int64_t t = 0; t < even_count; t += 4) {
      Four in[4], out[4];
      for (int i = 0; i < 4; i++) in[i] = load_four(rows + (t + i) * row + c);
      transpose<T>(in, out);
      for (int i = 0; i < 4; i++) *(Four*)(lines + (c + i) * kPitch + t) = out[i];
    }
  for (int64_t c = 0; c < channels; c++)
    for (int64_t t = c < even_channels ? even_count : 0; t < count; t++)
      lines[c * kPitch + t] = load_one(rows + t * row + c);
}

// The opposite.
template <typename T, typename S>
static void rows_of_lines(const T* lines, S* rows, int64_t row, int64_t count, int64_t channels) {
  typedef typename Quad<T>::Four Four;
  int64_t even_count = count / 4 * 4, even_channels = channels / 8 * 8;
  for (int64_t c = 0; c < even_channels; c += 8)
    for (int64_t t = 0; t < even_count; t += 4) {
      Four in[2][4], out[2][4];
      for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 4; i++) in[half][i] = load_four(lines + (c + 4 * half + i) * kPitch + t);
        transpose<T>(in[half], out[half]);
      }
      for (int i = 0; i < 4; i++) {
        typename Octet<T>::Eight both;
        ((Four*)&both)[0] = out[0][i], ((Four*)&both)[1] = out[1][i];
        store_eight(rows + (t + i) * row + c, both);
      }
    }
  for (int64_t c = 0; c < channels; c++)
    for (int64_t t = c < even_channels ? even_count : 0; t < count; t++)
      store_one(rows + t * row + c, lines[c * kPitch + t]);
}

// Lines (channels, kPitch) of numbers that are `channel` and `position` apart.
template <typename T, typename S>
static void copy_lines(const S* from, int64_t channel, int64_t position, int64_t count, int64_t channels, T* lines) {
  if (channel == 1) {
    lines_of_rows(from, position, count, channels, lines);
  } else {
    for (int64_t c = 0; c < channels; c++)
      for (int64_t t = 0; t < count; t++) lines[c * kPitch + t] = load_one(from + c * channel + t * position);
  }
}

// The opposite.
template <typename T, typename S>
static void write_lines(const T* lines, S* to, int64_t channel, int64_t position, int64_t count, int64_t channels) {
  if (channel == 1) {
    rows_of_lines(lines, to, position, count, channels);
  } else {
    for (int64_t c = 0; c < channels; c++)
      for (int64_t t = 0; t < count; t++) store_one(to + c * channel + t * position, lines[c * kPitch + t]);
  }
}
