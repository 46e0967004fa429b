// The CPU kernels, in plain C++ with vectors of a fixed size. cpu/instruction_sets.h includes this file once per
// instruction set.
//
// A block of positions goes tap by tap: sample the columns of all groups (positions x channels, in L1), then add
// columns x weight to the block's output. Nothing larger than a block is ever stored.

#if defined(__clang__) || __GNUC__ >= 12
#define VSR_SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define VSR_SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, typename Quad<T>::Order{i, j, k, l})
#endif

// Rows of a matrix product that stay in registers.
constexpr int kRows = VSR_VECTOR_BYTES == 64 ? 12 : VSR_VECTOR_BYTES == 32 ? 6 : 4;

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

template <typename T>
VSR_INLINE typename Octet<T>::Eight& eight(T* p) {
  return *(typename Octet<T>::Eight*)p;
}
template <typename T>
VSR_INLINE const typename Octet<T>::Eight& eight(const T* p) {
  return *(const typename Octet<T>::Eight*)p;
}
// c (Rows x 16) = a (Rows x depth) b (depth x 16), added to c when Add.
template <int Rows, bool Add, typename T>
VSR_INLINE void panel_rows(const T* a, int64_t a_row, int64_t a_depth, const T* b, int64_t b_depth, T* c, int64_t c_row,
                           int64_t depth) {
  typedef typename Vector<T>::Wide Wide;
  constexpr int kLanes = Vector<T>::kLanes, kVectors = kPanel / kLanes;
  Wide sum[Rows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; r++)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; v++) sum[r][v] = Add ? wide(c + r * c_row + v * kLanes) : Wide{};
  for (int64_t k = 0; k < depth; k++, a += a_depth, b += b_depth) {
    Wide row[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; v++) row[v] = wide(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; r++) {
      T scale = a[r * a_row];
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; v++) sum[r][v] += row[v] * scale;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; r++)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; v++) wide(c + r * c_row + v * kLanes) = sum[r][v];
}

template <bool Add, typename T>
static void panel(const T* a, int64_t a_row, int64_t a_depth, const T* b, int64_t b_depth, T* c, int64_t c_row,
                  int64_t rows, int64_t depth) {
  for (; rows >= kRows; rows -= kRows, a += kRows * a_row, c += kRows * c_row)
    panel_rows<kRows, Add>(a, a_row, a_depth, b, b_depth, c, c_row, depth);
  for (; rows >= 4; rows -= 4, a += 4 * a_row, c += 4 * c_row)
    panel_rows<4, Add>(a, a_row, a_depth, b, b_depth, c, c_row, depth);
  for (; rows > 0; rows--, a += a_row, c += c_row) panel_rows<1, Add>(a, a_row, a_depth, b, b_depth, c, c_row, depth);
}

template <typename T>
static void find_bases(const Shape& s, int64_t first, int64_t count, Scratch<T>& scratch) {
  int64_t y = first / s.wo, x = first % s.wo;
  for (int64_t t = 0; t < count; t++) {
    scratch.base_y.get()[t] = T(y * s.stride_h - s.padding_h);
    scratch.base_x.get()[t] = T(x * s.stride_w - s.padding_w);
    if (++x == s.wo) x = 0, y++;
  }
}

// Values of a plane at count positions from `first` on, side by side.
template <typename T>
VSR_INLINE const T* line(const Planes<const T>& planes, int64_t n, int64_t c, int64_t first, int64_t count, T* copy) {
  const T* source = planes.plane(n, c) + first * planes.position;
  if (planes.position == 1) return source;
  for (int64_t t = 0; t < count; t++) copy[t] = source[t * planes.position];
  return copy;
}

// Where a block reads. A coordinate of exactly -1 touches the first row or column with weight 0: it adds nothing to the
// output but its derivative is not zero, which is what Edge chooses (torchvision's rule), along with what the
// derivatives need. A NaN coordinate makes the weights NaN.
template <bool Edge, typename T>
static void find_samples(const Problem<T>& p, int64_t n, int64_t group, int64_t tap, int64_t first, int64_t count,
                         Scratch<T>& scratch) {
  const Shape& s = p.s;
  Samples<T>& out = scratch.samples;
  int64_t channel = group * s.taps() + tap;
  T* copy = scratch.strided.get();
  const T* offset_y = line(p.offset, n, 2 * channel, first, count, copy);
  const T* offset_x = line(p.offset, n, 2 * channel + 1, first, count, copy + kBlock);
  const T* mask = line(p.mask, n, channel, first, count, copy + 2 * kBlock);
  const T* base_y = scratch.base_y.get();
  const T* base_x = scratch.base_x.get();
  const T tap_y = T(tap / s.kw * s.dilation_h), tap_x = T(tap % s.kw * s.dilation_w);
  const T height = T(s.h), width = T(s.w);
  const int32_t rows = int32_t(s.h), columns = int32_t(s.w);
  for (int64_t t = 0; t < count; t++) {
    T y = base_y[t] + tap_y + offset_y[t], x = base_x[t] + tap_x + offset_x[t];
    bool inside = (Edge ? (y >= T(-1)) & (x >= T(-1)) : (y > T(-1)) & (x > T(-1))) & (y < height) & (x < width);
    bool number = (y == y) & (x == x);
    T safe_y = inside ? y : T(0), safe_x = inside ? x : T(0);
    int32_t top = int32_t(safe_y), left = int32_t(safe_x);
    top -= T(top) > safe_y, left -= T(left) > safe_x;  // int32_t() rounds towards zero, and -1 is the smallest
    T dy = number ? safe_y - T(top) : T(__builtin_nan("")), dx = number ? safe_x - T(left) : T(__builtin_nan(""));
    bool up = inside & (top >= 0), down = inside & (top + 1 < rows), west = left >= 0, east = left + 1 < columns;
    int32_t pixel = top * columns + left;
    T m = mask[t];
    out.corner[0][t] = up & west ? pixel : -1;
    out.corner[1][t] = up & east ? pixel + 1 : -1;
    out.corner[2][t] = down & west ? pixel + columns : -1;
    out.corner[3][t] = down & east ? pixel + columns + 1 : -1;
    out.weight[0][t] = (1 - dy) * (1 - dx) * m;
    out.weight[1][t] = (1 - dy) * dx * m;
    out.weight[2][t] = dy * (1 - dx) * m;
    out.weight[3][t] = dy * dx * m;
    if (Edge) out.fraction_y[t] = dy, out.fraction_x[t] = dx, out.mask[t] = m;
  }
}

// Channels of one group at the sampled points: columns (count, row). Width is group_channels where it is known to the
// compiler, else 0.
template <int Width, typename T>
static void gather(const Problem<T>& p, const T* image, int64_t group_channels, int64_t count, const Samples<T>& at,
                   T* columns, int64_t row) {
  typedef typename Octet<T>::Eight Eight;
  const int64_t width = Width ? Width : group_channels;
  for (int64_t t = 0; t < count; t++, columns += row) {
    const T* from[4];
    for (int i = 0; i < 4; i++) from[i] = at.corner[i][t] < 0 ? p.zeros : image + at.corner[i][t] * p.channels;
    for (int64_t c = 0; c < width; c += 8) {
      Eight sum = eight(from[0] + c) * at.weight[0][t];
      for (int i = 1; i < 4; i++) sum += eight(from[i] + c) * at.weight[i][t];
      eight(columns + c) = sum;
    }
  }
}

template <typename T>
static void forward_block(const Problem<T>& p, int64_t n, int64_t first, int64_t count, Scratch<T>& scratch) {
  const Shape& s = p.s;
  T* columns = scratch.columns.get();
  T* output = scratch.output.get();
  for (int64_t t = 0; t < count; t++) __builtin_memcpy(output + t * p.outputs, p.bias, p.outputs * sizeof(T));
  find_bases(s, first, count, scratch);
  const T* image = p.input + n * s.pixels() * p.channels;
  auto gather_group = p.group_channels == 8 ? gather<8, T> : p.group_channels == 16 ? gather<16, T> : gather<0, T>;
  for (int64_t tap = 0; tap < s.taps(); tap++) {
    for (int64_t g = 0; g < s.offset_groups; g++) {
      find_samples<false>(p, n, g, tap, first, count, scratch);
      gather_group(p, image + g * p.group_channels, p.group_channels, count, scratch.samples,
                   columns + g * p.group_channels, p.channels);
    }
    const T* weight = p.weight_forward + tap * p.outputs * p.channels;
    for (int64_t o = 0; o < p.outputs; o += kPanel, weight += kPanel * p.channels) {
      Range r = p.channels_read_by(o);
      panel<true>(columns + r.first, p.channels, 1, weight + r.first * kPanel, kPanel, output + o, p.outputs, count,
                  r.last - r.first);
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

// Gradients of one group at the sampled points, from grad_columns (count, row): the columns again where they are
// wanted, the input's gradient added at the four corners, and the offset's and mask's by the dot products with the
// corners.
template <int Width, typename T>
static void scatter(const Problem<T>& p, const T* image, T* grad_image, int64_t count, const Samples<T>& at,
                    const T* grad_columns, T* columns, int64_t row, T* grad_y, T* grad_x, T* grad_mask,
                    int64_t offset_step, int64_t mask_step) {
  typedef typename Octet<T>::Eight Eight;
  const int64_t width = Width ? Width : p.group_channels;
  for (int64_t t = 0; t < count; t++, grad_columns += row, columns += row) {
    const T* from[4];
    for (int i = 0; i < 4; i++) from[i] = at.corner[i][t] < 0 ? p.zeros : image + at.corner[i][t] * p.channels;
    Eight product[4] = {};
    for (int64_t c = 0; c < width; c += 8) {
      Eight gradient = eight(grad_columns + c), sum = {};
      for (int i = 0; i < 4; i++) {
        Eight value = eight(from[i] + c);
        product[i] += gradient * value;
        sum += value * at.weight[i][t];
      }
      eight(columns + c) = sum;
      if (grad_image != nullptr) {
        for (int i = 0; i < 4; i++)
          if (at.corner[i][t] >= 0) eight(grad_image + at.corner[i][t] * p.channels + c) += gradient * at.weight[i][t];
      }
    }
    typename Quad<T>::Four dot = sums<T>(product);
    T dy = at.fraction_y[t], dx = at.fraction_x[t], m = at.mask[t];
    if (grad_y != nullptr) {
      grad_y[t * offset_step] = m * ((1 - dx) * (dot[2] - dot[0]) + dx * (dot[3] - dot[1]));
      grad_x[t * offset_step] = m * ((1 - dy) * (dot[1] - dot[0]) + dy * (dot[3] - dot[2]));
    }
    if (grad_mask != nullptr)
      grad_mask[t * mask_step] = (1 - dy) * ((1 - dx) * dot[0] + dx * dot[1]) + dy * ((1 - dx) * dot[2] + dx * dot[3]);
  }
}

template <typename T>
static void backward_block(const Problem<T>& p, int64_t part, int64_t n, int64_t slab, int64_t first, int64_t count,
                           Scratch<T>& scratch) {
  const Shape& s = p.s;
  const int64_t row = p.slab_channels(), panels = row / kPanel, from = slab * row;
  const int64_t first_group = slab * p.slab_groups;
  const int64_t last_group =
      first_group + p.slab_groups < s.offset_groups ? first_group + p.slab_groups : s.offset_groups;
  const T* grad_output = p.grad_output + (n * s.positions() + first) * p.outputs;
  const T* image = p.input + n * s.pixels() * p.channels;
  T* grad_image = p.grad_input ? p.grad_input + (part * s.n + n) * s.pixels() * p.channels : nullptr;
  T* columns = scratch.columns.get();
  T* grad_columns = scratch.grad_columns.get();
  auto scatter_group = p.group_channels == 8 ? scatter<8, T> : p.group_channels == 16 ? scatter<16, T> : scatter<0, T>;
  find_bases(s, first, count, scratch);
  for (int64_t tap = 0; tap < s.taps(); tap++) {
    for (int64_t j = 0; j < panels; j++) {
      int64_t channel = from + j * kPanel;
      Range r = p.outputs_reading(channel);
      const T* weight = p.weight_backward + tap * p.channels * p.outputs + channel * p.outputs;
      panel<false>(grad_output + r.first, p.outputs, 1, weight + r.first * kPanel, kPanel, grad_columns + j * kPanel,
                   row, count, r.last - r.first);
    }
    for (int64_t g = first_group; g < last_group; g++) {
      int64_t channel = g * s.taps() + tap, start = g * p.group_channels;
      find_samples<true>(p, n, g, tap, first, count, scratch);
      T* grad_y = p.grad_offset.data ? p.grad_offset.plane(n, 2 * channel) + first * p.grad_offset.position : nullptr;
      T* grad_x = grad_y ? grad_y + p.grad_offset.channel : nullptr;
      T* grad_mask = p.grad_mask.data ? p.grad_mask.plane(n, channel) + first * p.grad_mask.position : nullptr;
      scatter_group(p, image + start, grad_image ? grad_image + start : nullptr, count, scratch.samples,
                    grad_columns + start - from, columns + start - from, row, grad_y, grad_x, grad_mask,
                    p.grad_offset.position, p.grad_mask.position);
    }
    if (p.grad_weight == nullptr) continue;
    T* grad_weight = p.grad_weight + (((part * s.n + n) * s.taps() + tap) * p.channels + from) * p.outputs;
    for (int64_t j = 0; j < panels; j++) {
      Range r = p.outputs_reading(from + j * kPanel);
      panel<true>(grad_output + r.first, 1, p.outputs, columns + j * kPanel, row,
                  grad_weight + j * p.outputs * kPanel + r.first * kPanel, kPanel, r.last - r.first, count);
    }
  }
}

template <typename T>
static Kernels<T> kernels() {
  return {forward_block<T>, backward_block<T>};
}

#undef VSR_SHUFFLE4
