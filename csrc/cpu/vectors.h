// Vectors of one register that may stand at any address. instruction_sets.h includes this file once per instruction
// set, before the kernels; hence no include guard and no standard header.
#define VSR_INLINE static inline __attribute__((always_inline))

template <typename T>
struct Vector {
  typedef T Wide __attribute__((vector_size(VSR_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int kLanes = VSR_VECTOR_BYTES / sizeof(T);
};

template <typename T>
VSR_INLINE typename Vector<T>::Wide& wide(T* p) {
  return *(typename Vector<T>::Wide*)p;
}
template <typename T>
VSR_INLINE const typename Vector<T>::Wide& wide(const T* p) {
  return *(const typename Vector<T>::Wide*)p;
}
