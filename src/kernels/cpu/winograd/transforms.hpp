// The linear maps of Winograd's minimal filtering, to and from the transform domain.

BIV_INLINE Lanes times(float factor, Lanes value) { return spread(factor) * value; }
// factor a + b
BIV_INLINE Lanes times_plus(float factor, Lanes a, Lanes b) { return multiply_add(spread(factor), a, b); }

// The filter's pixels in one dimension, and in both.
constexpr int kFilter = 3, kTaps = kFilter * kFilter;

// The maps of tiles of 2 in one dimension, F(2, 3).
struct TilesOf2 {
  static constexpr int kTile = 2, kInput = 4;

  struct Input {  // B^T
    static constexpr int kFrom = kInput, kTo = kInput;
    BIV_INLINE static void apply(const Lanes (&d)[kFrom], Lanes (&v)[kTo]) {
      v[0] = d[0] - d[2];
      v[1] = d[1] + d[2];
      v[2] = d[2] - d[1];
      v[3] = d[1] - d[3];
    }
  };

  struct Output {  // A^T
    static constexpr int kFrom = kInput, kTo = kTile;
    BIV_INLINE static void apply(const Lanes (&m)[kFrom], Lanes (&y)[kTo]) {
      y[0] = m[0] + m[1] + m[2];
      y[1] = m[1] - m[2] - m[3];
    }
  };

  struct Delta {  // A
    static constexpr int kFrom = kTile, kTo = kInput;
    BIV_INLINE static void apply(const Lanes (&y)[kFrom], Lanes (&m)[kTo]) {
      m[0] = y[0];
      m[1] = y[0] + y[1];
      m[2] = y[0] - y[1];
      m[3] = -y[1];
    }
  };

  struct Filter {  // G
    static constexpr int kFrom = kFilter, kTo = kInput;
    BIV_INLINE static void apply(const Lanes (&g)[kFrom], Lanes (&u)[kTo]) {
      const Lanes even = times(0.5f, g[0] + g[2]), odd = times(0.5f, g[1]);
      u[0] = g[0];
      u[1] = even + odd;
      u[2] = even - odd;
      u[3] = g[2];
    }
  };

  struct Gradient {  // G^T
    static constexpr int kFrom = kInput, kTo = kFilter;
    BIV_INLINE static void apply(const Lanes (&u)[kFrom], Lanes (&g)[kTo]) {
      const Lanes half = times(0.5f, u[1] + u[2]);
      g[0] = u[0] + half;
      g[1] = times(0.5f, u[1] - u[2]);
      g[2] = half + u[3];
    }
  };
};

// The maps of tiles of 4 in one dimension, F(4, 3).
struct TilesOf4 {
  static constexpr int kTile = 4, kInput = 6;

  struct Input {  // B^T
    static constexpr int kFrom = kInput, kTo = kInput;
    BIV_INLINE static void apply(const Lanes (&d)[kFrom], Lanes (&v)[kTo]) {
      const Lanes even = times_plus(-4, d[2], d[4]), odd = times_plus(-4, d[1], d[3]);
      const Lanes small = d[4] - d[2], step = times(2, d[3] - d[1]);
      v[0] = times_plus(4, d[0] - d[2], small);
      v[1] = even + odd;
      v[2] = even - odd;
      v[3] = small + step;
      v[4] = small - step;
      v[5] = times_plus(4, d[1] - d[3], d[5] - d[3]);
    }
  };

  struct Output {  // A^T
    static constexpr int kFrom = kInput, kTo = kTile;
    BIV_INLINE static void apply(const Lanes (&m)[kFrom], Lanes (&y)[kTo]) {
      const Lanes sum1 = m[1] + m[2], sum2 = m[3] + m[4], difference1 = m[1] - m[2], difference2 = m[3] - m[4];
      y[0] = m[0] + sum1 + sum2;
      y[1] = times_plus(2, difference2, difference1);
      y[2] = times_plus(4, sum2, sum1);
      y[3] = times_plus(8, difference2, difference1) + m[5];
    }
  };

  struct Delta {  // A
    static constexpr int kFrom = kTile, kTo = kInput;
    BIV_INLINE static void apply(const Lanes (&y)[kFrom], Lanes (&m)[kTo]) {
      const Lanes even1 = y[0] + y[2], odd1 = y[1] + y[3];
      const Lanes even2 = times_plus(4, y[2], y[0]), odd2 = times_plus(8, y[3], times(2, y[1]));
      m[0] = y[0];
      m[1] = even1 + odd1;
      m[2] = even1 - odd1;
      m[3] = even2 + odd2;
      m[4] = even2 - odd2;
      m[5] = y[3];
    }
  };

  struct Filter {  // G
    static constexpr int kFrom = kFilter, kTo = kInput;
    BIV_INLINE static void apply(const Lanes (&g)[kFrom], Lanes (&u)[kTo]) {
      const Lanes even1 = times(-1.0f / 6, g[0] + g[2]), odd1 = times(1.0f / 6, g[1]);
      const Lanes even2 = times_plus(1.0f / 24, g[0], times(1.0f / 6, g[2])), odd2 = times(1.0f / 12, g[1]);
      u[0] = times(0.25f, g[0]);
      u[1] = even1 - odd1;
      u[2] = even1 + odd1;
      u[3] = even2 + odd2;
      u[4] = even2 - odd2;
      u[5] = g[2];
    }
  };

  struct Gradient {  // G^T
    static constexpr int kFrom = kInput, kTo = kFilter;
    BIV_INLINE static void apply(const Lanes (&u)[kFrom], Lanes (&g)[kTo]) {
      const Lanes sum1 = times(-1.0f / 6, u[1] + u[2]), sum2 = u[3] + u[4];
      g[0] = times_plus(0.25f, u[0], times_plus(1.0f / 24, sum2, sum1));
      g[1] = times_plus(1.0f / 6, u[2] - u[1], times(1.0f / 12, u[3] - u[4]));
      g[2] = times_plus(1.0f / 6, sum2, sum1) + u[5];
    }
  };
};

// Applies a map in both dimensions.
template <class Map>
BIV_INLINE void transform(const Lanes (&from)[Map::kFrom][Map::kFrom], Lanes (&to)[Map::kTo][Map::kTo]) {
  Lanes between[Map::kTo][Map::kFrom];
#pragma GCC unroll 6
  for (int j = 0; j < Map::kFrom; ++j) {
    Lanes column[Map::kFrom], result[Map::kTo];
#pragma GCC unroll 6
    for (int i = 0; i < Map::kFrom; ++i) column[i] = from[i][j];
    Map::apply(column, result);
#pragma GCC unroll 6
    for (int i = 0; i < Map::kTo; ++i) between[i][j] = result[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Map::kTo; ++i) Map::apply(between[i], to[i]);
}
