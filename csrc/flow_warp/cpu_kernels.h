// The inner loops of the CPU warp, compiled once per instruction set by ../cpu/instruction_sets.h. A row of a table
// holds kSlab channels of a pixel.

#if defined(__clang__) || __GNUC__ >= 12
#define VSR_SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define VSR_SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, typename Quad<T>::Order{i, j, k, l})
#endif

template <typename T>
struct Quad {
  typedef T Four __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
  typedef decltype(Four{} < Four{}) Order;
};

// Replaces four rows of four values by their columns.
template <typename T>
VSR_INLINE void transpose(typename Quad<T>::Four* r) {
  typedef typename Quad<T>::Four Four;
  const Four a = VSR_SHUFFLE4(r[0], r[1], 0, 4, 1, 5), b = VSR_SHUFFLE4(r[2], r[3], 0, 4, 1, 5);
  const Four c = VSR_SHUFFLE4(r[0], r[1], 2, 6, 3, 7), d = VSR_SHUFFLE4(r[2], r[3], 2, 6, 3, 7);
  r[0] = VSR_SHUFFLE4(a, b, 0, 1, 4, 5), r[1] = VSR_SHUFFLE4(a, b, 2, 3, 6, 7);
  r[2] = VSR_SHUFFLE4(c, d, 0, 1, 4, 5), r[3] = VSR_SHUFFLE4(c, d, 2, 3, 6, 7);
}

// Copies a matrix to its transpose: rows of 4 · across values, `from_row` apart, to columns. `rows` is a multiple of 4.
template <typename T>
static void transposed(const T* from, long from_row, long rows, long across, T* to, long to_row) {
  typedef typename Quad<T>::Four Four;
  for (long i = 0; i < rows; i += 4)
    for (long j = 0; j < 4 * across; j += 4) {
      Four block[4];
      for (int k = 0; k < 4; k++) block[k] = *(const Four*)(from + (i + k) * from_row + j);
      transpose<T>(block);
      for (int k = 0; k < 4; k++) *(Four*)(to + (j + k) * to_row + i) = block[k];
    }
}

// out[p] = Σ_k weight_k · table[index_k] for `count` positions.
template <typename T>
static void sample(const T* table, const Corners<T>* at, long count, T* out) {
  constexpr int kLanes = Vector<T>::kLanes;
  for (long p = 0; p < count; p++, out += kSlab) {
    const Corners<T>& c = at[p];
    const T *a = table + c.index[0] * kSlab, *b = table + c.index[1] * kSlab;
    const T *d = table + c.index[2] * kSlab, *e = table + c.index[3] * kSlab;
    for (int i = 0; i < kSlab; i += kLanes)
      wide(out + i) = (c.weight[0] * wide(a + i) + c.weight[1] * wide(b + i)) +
                      (c.weight[2] * wide(d + i) + c.weight[3] * wide(e + i));
  }
}

// Adds weight_k · grad[p] to row index_k of grad_table.
template <typename T>
static void scatter(const T* grad, const Corners<T>* at, long count, T* grad_table) {
  constexpr int kLanes = Vector<T>::kLanes;
  for (long p = 0; p < count; p++, grad += kSlab)
    for (int k = 0; k < 4; k++) {
      T* row = grad_table + at[p].index[k] * kSlab;
      for (int i = 0; i < kSlab; i += kLanes) wide(row + i) += at[p].weight[k] * wide(grad + i);
    }
}

// The flow's gradient: ⟨grad[p], change of the sample along x⟩ to along_x[p], and along y. `lanes` has room for two
// rows of 4 values per position; `count` is a multiple of 4, or the rows after it may be written.
template <typename T>
static void slopes(const T* table, const T* grad, const Corners<T>* at, long count, T* lanes, T* along_x, T* along_y) {
  typedef typename Vector<T>::Wide Wide;
  typedef typename Quad<T>::Four Four;
  constexpr int kLanes = Vector<T>::kLanes;
  T* const lanes_y = lanes + 4 * kBlock;
  for (long p = 0; p < count; p++, grad += kSlab) {
    const Corners<T>& c = at[p];
    const T *a = table + c.index[0] * kSlab, *b = table + c.index[1] * kSlab;
    const T *d = table + c.index[2] * kSlab, *e = table + c.index[3] * kSlab;
    Wide sum_x = wide(grad) * 0, sum_y = sum_x;
    for (int i = 0; i < kSlab; i += kLanes) {
      const Wide top = wide(b + i) - wide(a + i), bottom = wide(e + i) - wide(d + i);
      const Wide left = wide(d + i) - wide(a + i), right = wide(e + i) - wide(b + i);
      sum_x += wide(grad + i) * (top + c.dy * (bottom - top));
      sum_y += wide(grad + i) * (left + c.dx * (right - left));
    }
    for (int i = 4; i < kLanes; i += 4) {
      ((Four*)&sum_x)[0] += ((Four*)&sum_x)[i / 4];
      ((Four*)&sum_y)[0] += ((Four*)&sum_y)[i / 4];
    }
    *(Four*)(lanes + 4 * p) = ((Four*)&sum_x)[0];
    *(Four*)(lanes_y + 4 * p) = ((Four*)&sum_y)[0];
  }
  for (long p = 0; p < count; p += 4) {
    for (T* of : {lanes, lanes_y}) {
      Four* four = (Four*)(of + 4 * p);
      transpose<T>(four);
      four[0] = (four[0] + four[1]) + (four[2] + four[3]);
    }
    for (long i = p; i < p + 4 && i < count; i++) {
      along_x[i] = lanes[4 * p + i - p] * at[i].slope_x;
      along_y[i] = lanes_y[4 * p + i - p] * at[i].slope_y;
    }
  }
}

template <typename T>
static Kernels<T> kernels() {
  return {sample<T>, scatter<T>, slopes<T>, transposed<T>};
}

#undef VSR_SHUFFLE4
