// Bilinear sampling of blocks of positions and its gradients, in plain C++ with vectors of a fixed size. Features are
// stored as S, float, double or Bits16, and computed as T. The files of kernels include this one once per instruction
// set.

#if defined(__clang__) || __GNUC__ >= 12
#define VSR_SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define VSR_SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, typename Quad<T>::Order{i, j, k, l})
#endif

// Channels of a group.
template <typename T>
struct Octet {
  typedef T Eight __attribute__((vector_size(8 * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <typename T>
struct Quad {
  typedef T Four __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
};
#if !defined(__clang__) && __GNUC__ < 12
template <>
struct Quad<float> {
  typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
  typedef int32_t Order __attribute__((vector_size(16)));
};
template <>
struct Quad<double> {
  typedef double Four __attribute__((vector_size(32), aligned(8), may_alias));
  typedef int64_t Order __attribute__((vector_size(32)));
};
#endif
typedef uint32_t EightWords __attribute__((vector_size(32)));
typedef uint16_t EightBits16 __attribute__((vector_size(16), aligned(2), may_alias));

template <typename T>
VSR_INLINE typename Octet<T>::Eight& eight(T* p) {
  return *(typename Octet<T>::Eight*)p;
}
template <typename T>
VSR_INLINE typename Octet<T>::Eight load_eight(const T* p) {
  return *(const typename Octet<T>::Eight*)p;
}
template <typename T>
VSR_INLINE void store_eight(T* p, typename Octet<T>::Eight x) {
  eight(p) = x;
}
#if VSR_VECTOR_BYTES >= 32
VSR_INLINE Octet<float>::Eight load_eight(const Bits16* p) {
  return (Octet<float>::Eight)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16);
}
#else
VSR_INLINE Octet<float>::Eight load_eight(const Bits16* p) {
  return (Octet<float>::Eight)(__builtin_convertvector(*(const EightBits16*)p, EightWords) << 16);
}
#endif
#if defined(VSR_AVX512_BF16) && VSR_VECTOR_BYTES == 64
VSR_INLINE void store_eight(Bits16* p, Octet<float>::Eight x) {
  _mm_storeu_si128((__m128i*)p, (__m128i)_mm256_cvtneps_pbh((__m256)x));
}
#else
VSR_INLINE void store_eight(Bits16* p, Octet<float>::Eight x) {
  EightWords bits = (EightWords)x, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  rounded = x == x ? rounded : (bits >> 16 | 0x40);  // a NaN stays one
  *(EightBits16*)p = __builtin_convertvector(rounded, EightBits16);
}
#endif

// Coordinates of the positions before padding, dilation and offset.
template <typename T>
static void find_bases(const Shape& s, int64_t first, int64_t count, Samples<T>& at) {
  int64_t y = first / s.wo, x = first % s.wo;
  for (int64_t t = 0; t < count; t++) {
    at.base_y[t] = T(y * s.stride_h - s.padding_h);
    at.base_x[t] = T(x * s.stride_w - s.padding_w);
    if (++x == s.wo) x = 0, y++;
  }
}

// Where a block reads. A coordinate of exactly -1 touches the first row or column with weight 0: it adds nothing to the
// output but its derivative is not zero, which is what Edge chooses (torchvision's rule), along with what the
// derivatives need. A NaN coordinate makes the weights NaN.
template <bool Edge, typename T>
static void find_samples(const Shape& s, int64_t tap, const T* __restrict offset_y, const T* __restrict offset_x,
                         const T* __restrict mask, int64_t count, Samples<T>& __restrict out) {
  const T tap_y = T(tap / s.kw * s.dilation_h), tap_x = T(tap % s.kw * s.dilation_w);
  const T height = T(s.h), width = T(s.w);
  const int32_t line = int32_t(s.w + 2), outside = int32_t((s.h + 1) * (s.w + 2));
  for (int64_t t = 0; t < count; t++) {
    T y = out.base_y[t] + tap_y + offset_y[t], x = out.base_x[t] + tap_x + offset_x[t];
    bool inside = (Edge ? (y >= T(-1)) & (x >= T(-1)) : (y > T(-1)) & (x > T(-1))) & (y < height) & (x < width);
    bool number = (y == y) & (x == x);
    T safe_y = inside ? y : T(0), safe_x = inside ? x : T(0);
    int32_t top = int32_t(safe_y), left = int32_t(safe_x);
    top -= T(top) > safe_y, left -= T(left) > safe_x;  // int32_t() rounds towards zero, and -1 is the smallest
    T dy = number ? safe_y - T(top) : T(__builtin_nan("")), dx = number ? safe_x - T(left) : T(__builtin_nan(""));
    T m = mask[t];
    out.pixel[t] = inside ? (top + 1) * line + left + 1 : outside;
    out.weight[0][t] = (1 - dy) * (1 - dx) * m;
    out.weight[1][t] = (1 - dy) * dx * m;
    out.weight[2][t] = dy * (1 - dx) * m;
    out.weight[3][t] = dy * dx * m;
    if (Edge) out.fraction_y[t] = dy, out.fraction_x[t] = dx, out.mask[t] = m;
  }
}

// Channels of one group at the sampled points of a frame whose rows are `line` numbers: columns (count, row). Width is
// the group's channels where they are known to the compiler, else 0.
template <int Width, typename T, typename S>
static void gather(const S* image, int64_t line, int64_t group_channels, int64_t count, const Samples<T>& at,
                   S* columns, int64_t row) {
  typedef typename Octet<T>::Eight Eight;
  const int64_t width = Width ? Width : group_channels;
  for (int64_t t = 0; t < count; t++, columns += row) {
    const S* pixel = image + at.pixel[t] * width;
    const S* from[4] = {pixel, pixel + width, pixel + line, pixel + line + width};
    for (int64_t c = 0; c < width; c += 8) {
      Eight sum = load_eight(from[0] + c) * at.weight[0][t];
      for (int i = 1; i < 4; i++) sum += load_eight(from[i] + c) * at.weight[i][t];
      store_eight(columns + c, sum);
    }
  }
}

// Sums over the channels of a group: dot[i] = <gradient, corner i>.
template <typename T>
VSR_INLINE typename Quad<T>::Four sums(const typename Octet<T>::Eight product[4]) {
  typedef typename Quad<T>::Four Four;
  Four half[4];
  for (int i = 0; i < 4; i++) half[i] = ((const Four*)&product[i])[0] + ((const Four*)&product[i])[1];
  Four a = VSR_SHUFFLE4(half[0], half[1], 0, 4, 1, 5) + VSR_SHUFFLE4(half[0], half[1], 2, 6, 3, 7);
  Four b = VSR_SHUFFLE4(half[2], half[3], 0, 4, 1, 5) + VSR_SHUFFLE4(half[2], half[3], 2, 6, 3, 7);
  return VSR_SHUFFLE4(a, b, 0, 1, 4, 5) + VSR_SHUFFLE4(a, b, 2, 3, 6, 7);
}

// Gradients of one group at the sampled points, from grad_columns (count, row): the columns again, the input's gradient
// added at the four corners where it is wanted, and in at.dot the dot products with the corners. A row of the frame is
// `line` numbers.
template <int Width, typename T, typename S>
static void scatter(const S* image, T* grad_image, int64_t line, int64_t group_channels, int64_t count, Samples<T>& at,
                    const S* grad_columns, S* columns, int64_t row) {
  typedef typename Octet<T>::Eight Eight;
  const int64_t width = Width ? Width : group_channels;
  for (int64_t t = 0; t < count; t++, grad_columns += row, columns += row) {
    const S* pixel = image + at.pixel[t] * width;
    const S* from[4] = {pixel, pixel + width, pixel + line, pixel + line + width};
    Eight product[4] = {};
    for (int64_t c = 0; c < width; c += 8) {
      Eight gradient = load_eight(grad_columns + c), sum = {};
      for (int i = 0; i < 4; i++) {
        Eight value = load_eight(from[i] + c);
        product[i] += gradient * value;
        sum += value * at.weight[i][t];
      }
      store_eight(columns + c, sum);
      if (grad_image != nullptr) {
        T* to = grad_image + at.pixel[t] * width + c;
        for (int i = 0; i < 4; i++) eight(to + i / 2 * line + i % 2 * width) += gradient * at.weight[i][t];
      }
    }
    *(typename Quad<T>::Four*)at.dot[t] = sums<T>(product);
  }
}

// The gradients of offset and mask at the sampled points, from at.dot; none where null.
template <typename T>
static void offset_gradients(const Samples<T>& __restrict at, int64_t count, T* __restrict grad_y, T* __restrict grad_x,
                             T* __restrict grad_mask) {
  if (grad_y != nullptr) {
    for (int64_t t = 0; t < count; t++) {
      T dy = at.fraction_y[t], dx = at.fraction_x[t], m = at.mask[t];
      const T* dot = at.dot[t];
      grad_y[t] = m * ((1 - dx) * (dot[2] - dot[0]) + dx * (dot[3] - dot[1]));
      grad_x[t] = m * ((1 - dy) * (dot[1] - dot[0]) + dy * (dot[3] - dot[2]));
    }
  }
  if (grad_mask != nullptr) {
    for (int64_t t = 0; t < count; t++) {
      T dy = at.fraction_y[t], dx = at.fraction_x[t];
      const T* dot = at.dot[t];
      grad_mask[t] = (1 - dy) * ((1 - dx) * dot[0] + dx * dot[1]) + dy * ((1 - dx) * dot[2] + dx * dot[3]);
    }
  }
}
