/* Products of bfloat16 numbers with fp32 sums, for native.c: on tiles (AMX) or vectors (AVX512-BF16).

What is summed over lies in pairs: a matrix is [panel][in/2][COLS][2]. A row's sum has one order, the
same for any number of rows. Where the level has neither unit, `units` says 0 and none is called. */

typedef unsigned short half; /* bfloat16 */

#if defined(__AMX_BF16__)
#define UNITS 2 /* tiles, in a process that the kernel lets use them */
#elif defined(__AVX512BF16__)
#define UNITS 1 /* vectors */
#else
#define UNITS 0
#endif
int units(void) { return UNITS; }

#ifdef __AVX512BF16__
#include <immintrin.h>

HERE __m512bh pairs(const half *p) { return (__m512bh)_mm512_loadu_si512(p); }
HERE __m512bh twin(const half *p) { int v; memcpy(&v, p, 4); return (__m512bh)_mm512_set1_epi32(v); }
HERE vec dot(vec sum, __m512bh a, __m512bh b) { return (vec)_mm512_dpbf16_ps((__m512)sum, a, b); }

/* y[0..end) = x[0..n) rounded to bfloat16, zeros behind. */
HERE void shorten(const float *x, long n, half *y, long end) {
    for (long i = 0; i < end; i += LANES) {
        __mmask16 kept = n - i >= LANES ? 0xffff : n > i ? (1 << (n - i)) - 1 : 0;
        __m256bh v = _mm512_maskz_cvtneps_pbh(kept, _mm512_maskz_loadu_ps(kept, x + i));
        memcpy(y + i, &v, sizeof v);
    }
}

/* Scores of LANES positions for one query; keys [channel/2][LANES][2]. */
HERE vec half_scores(const half *k, const half *q, long d) {
    vec s0 = splat(0), s1 = s0, s2 = s0, s3 = s0;
    for (long i = 0; i < d; i += 8) {
        s0 = dot(s0, twin(q + i), pairs(k + i * LANES));
        s1 = dot(s1, twin(q + i + 2), pairs(k + (i + 2) * LANES));
        s2 = dot(s2, twin(q + i + 4), pairs(k + (i + 4) * LANES));
        s3 = dot(s3, twin(q + i + 6), pairs(k + (i + 6) * LANES));
    }
    return (s0 + s1) + (s2 + s3);
}

/* Add LANES channels of LANES positions, by weight, to four sums; values [position/2][channel][2]. */
HERE void half_mix(vec *o, const half *v, const half *e, long d) {
    for (int j = 0; j < 8; j++) o[j % 4] = dot(o[j % 4], twin(e + 2 * j), pairs(v + 2 * j * d));
}

HERE void half_rows(int rows, const half *x, const half *w, const float *bias, float *y, long ys, long in) {
    vec a[12][2];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2; j++) a[i][j] = bias ? load(bias + j * LANES) : splat(0);
    for (long k = 0; k < in; k += 2) {
        __m512bh w0 = pairs(w + k * COLS), w1 = pairs(w + k * COLS + 2 * LANES);
        for (int i = 0; i < rows; i++) {
            a[i][0] = dot(a[i][0], twin(x + i * in + k), w0);
            a[i][1] = dot(a[i][1], twin(x + i * in + k), w1);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2; j++) store(y + i * ys + j * LANES, a[i][j]);
}

#ifdef __AMX_BF16__
/* GCC's intrinsics do not declare the memory that tiles are loaded from: force earlier writes. */
#define WRITTEN __asm__ volatile("" ::: "memory")

/* Eight tiles of 16 rows of 64 bytes, for this thread. */
static void open_tiles(void) {
    struct { char palette, start, none[14]; unsigned short bytes[16]; char rows[16]; } c = {1};
    for (int i = 0; i < 8; i++) c.bytes[i] = 64, c.rows[i] = 16;
    WRITTEN;
    _tile_loadconfig(&c);
}
static void close_tiles(void) { _tile_release(); }

/* Write `rows` rows of a tile of results. */
#define PUT(tile, y, ys, rows) do { \
    if ((rows) >= 16) _tile_stored(tile, y, (ys) * 4); \
    else { \
        float all[16][16]; \
        _tile_stored(tile, all, 64); \
        for (long i = 0; i < (rows); i++) memcpy((y) + i * (ys), all[i], 64); \
    } } while (0)

/* x has room for a multiple of 16 rows. */
static void tile_rows(long rows, const half *x, const half *w, const float *bias, float *y, long ys,
                      long in) {
    static const float zeros[COLS];
    const float *b = bias ? bias : zeros;
    const half *next = w + in * COLS; /* panel, of which each 32 rows fetch half */
    WRITTEN;
    for (; rows > 0; rows -= 32, x += 32 * in, y += 32 * ys) {
        _tile_loadd(0, b, 0);
        _tile_loadd(1, b + 16, 0);
        _tile_loadd(2, b, 0);
        _tile_loadd(3, b + 16, 0);
        for (long k = 0; k < in; k += 32) {
            _tile_loadd(4, x + k, in * 2);
            _tile_loadd(6, w + k * COLS, 4 * COLS);
            _tile_loadd(7, w + k * COLS + 32, 4 * COLS);
            fetch(next, 16);
            next += 16 * LINE / sizeof(half);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            if (rows <= 16) continue;
            _tile_loadd(5, x + 16 * in + k, in * 2);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        PUT(0, y, ys, rows);
        PUT(1, y + 16, ys, rows);
        if (rows <= 16) break;
        PUT(2, y + 16 * ys, ys, rows - 16);
        PUT(3, y + 16 * ys + 16, ys, rows - 16);
    }
}
#else
static void open_tiles(void) {}
static void close_tiles(void) {}
#endif

/* One panel of y[rows][padded(out)] = x[rows][in] times w + bias; in is a multiple of COLS. */
static void half_panel(long rows, const half *x, const half *w, const float *bias, float *y, long ys, long in) {
#ifdef __AMX_BF16__
    tile_rows(rows, x, w, bias, y, ys, in);
#else
    long r = 0;
    for (; r + 12 <= rows; r += 12) half_rows(12, x + r * in, w, bias, y + r * ys, ys, in);
    for (; r + 4 <= rows; r += 4) half_rows(4, x + r * in, w, bias, y + r * ys, ys, in);
    for (; r < rows; r++) half_rows(1, x + r * in, w, bias, y + r * ys, ys, in);
#endif
}
#else
static void open_tiles(void) {}
static void close_tiles(void) {}
static void shorten(const float *x, long n, half *y, long end) { memset(y, 0, end * sizeof *y); }
static vec half_scores(const half *k, const half *q, long d) { return splat(0); }
static void half_mix(vec *o, const half *v, const half *e, long d) {}
static void half_panel(long rows, const half *x, const half *w, const float *b, float *y, long s, long in) {}
#endif
