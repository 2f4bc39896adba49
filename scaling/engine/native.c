/* The lean forward in C: one pass through all layers per tile of tokens, rows independent.

Every row's arithmetic has one fixed order, independent of its tile, thread and call, so that equal
contexts give equal bits under any batch size, order, refill, prefix sharing or cache extension.
Vectors are GCC/Clang vector extensions as wide as the machine's (wider ones the compiler keeps in
memory: 20 times slower). What is summed over lanes is summed over SPAN of them, whatever the width.

Layouts. Matrices: panels of COLS outputs, [panel][in][COLS]. Keys and values of one slot, layer and
key-value head: blocks of LANES positions, all keys [channel][LANES], then all values [LANES][channel]:
two streams that the machine fetches ahead by itself. The first `shared` blocks of a slot are read from
the slot that it `base`s on.

With `bf16`, matrices, keys and values are bfloat16 and so is what they are multiplied with; all else
is fp32. What is summed over lies in pairs: keys [channel/2][LANES][2], values [LANES/2][channel][2]. */

#include <math.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#define ROWS 12 /* rows per panel product: 2 * ROWS sums stay in registers */
#elif defined(__AVX__)
#define LANES 8
#define ROWS 6
#else
#define LANES 4
#define ROWS 6
#endif
#define NEAR (ROWS / 2) /* rows that attend together to keys they share: 4 * NEAR sums */
#define COLS (2 * LANES)
#define SPAN 16
#define PARTS (SPAN / LANES)
#define TILE 64
#define LINE 64 /* bytes of a cache line */
#define HERE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef struct {
    const float *norm1, *norm1_bias;
    const void *qkv;
    const float *qkv_bias, *q_norm, *k_norm;
    const void *out;
    const float *out_bias, *norm2, *norm2_bias;
    const void *up;
    const float *up_bias;
    const void *down;
    const float *down_bias;
} Layer;

typedef struct {
    long layers, hidden, heads, kv_heads, head_dim, inner, vocab, turned, rms, gated, activation, parallel;
    long bf16;          /* bfloat16, else fp32 */
    double eps;
    const float *embedding, *positions, *cos, *sin, *norm, *norm_bias;
    const void *head;
    const Layer *layer;
    long blocks;          /* per slot */
    char *kv;             /* [slot][layer][kv head][keys, values][block][LANES * head_dim] */
    const long *base, *shared;
} Model;

HERE vec load(const float *p) { return *(const vec *)p; }
HERE void store(float *p, vec v) { *(vec *)p = v; }
HERE vec splat(float a) { return a - (vec){0}; }
HERE long padded(long n) { return (n + 2 * SPAN - 1) / (2 * SPAN) * (2 * SPAN); }
HERE vec pick(ivec mask, vec a, vec b) { return (vec)(((ivec)a & mask) | ((ivec)b & ~mask)); }

/* The sum of SPAN lanes, by halves. */
HERE float total(const vec *part) {
    float s[SPAN];
    for (int i = 0; i < PARTS; i++) store(s + i * LANES, part[i]);
    for (int w = SPAN / 2; w; w /= 2)
        for (int i = 0; i < w; i++) s[i] += s[i + w];
    return s[0];
}

HERE float largest(vec v) {
    float top = v[0];
    for (int i = 1; i < LANES; i++) top = v[i] > top ? v[i] : top;
    return top;
}

/* Fetch `lines` cache lines into the second level of cache; reading beyond the memory is harmless. */
HERE void fetch(const void *p, long lines) {
    for (long i = 0; i < lines; i++) __builtin_prefetch((const char *)p + i * LINE, 0, 2);
}

#include "bfloat16.c"

/* e^x: x = n ln 2 + r, Taylor series of e^r to degree 7 (relative error below 2e-7); 0 below -87. */
HERE vec vexp(vec x) {
    ivec tiny = x < -87.0f;
    x = pick(tiny, splat(-87.0f), x);
    x = pick(x > 88.0f, splat(88.0f), x);
    vec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = splat(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    ivec scale = (__builtin_convertvector(n, ivec) + 127) << 23;
    return pick(tiny, splat(0), p * (vec)scale);
}

/* Gaussian error function for GELU: Abramowitz & Stegun 7.1.26, absolute error below 2e-7. */
HERE vec verf(vec x) {
    ivec negative = x < 0.0f;
    vec a = pick(negative, -x, x), t = 1.0f / (1.0f + 0.3275911f * a);
    vec p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t
             + 0.254829592f) * t;
    vec y = 1.0f - p * vexp(-a * a);
    return pick(negative, -y, y);
}

HERE vec activate(vec x, long kind) {
    if (kind == 0) return x / (1.0f + vexp(-x));                                    /* silu */
    if (kind == 1) return 0.5f * x * (1.0f + verf(x * 0.70710678f));                /* gelu */
    return x / (1.0f + vexp(-1.5957691216f * (x + 0.044715f * x * x * x)));         /* gelu_tanh */
}

/* y[rows][COLS] = x[rows][in] times one panel, each sum in the order of its inputs; a line of `next`
   is fetched per input. */
HERE void panel(int rows, const float *x, long xs, const float *w, const float *bias, float *y, long ys,
                long in, const float *next) {
    vec a[ROWS][2];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2; j++) a[i][j] = bias ? load(bias + j * LANES) : splat(0);
    for (long k = 0; k < in; k++) {
        vec w0 = load(w + k * COLS), w1 = load(w + k * COLS + LANES);
        fetch(next + k * LANES, 1);
        for (int i = 0; i < rows; i++) {
            vec v = splat(x[i * xs + k]);
            a[i][0] += v * w0;
            a[i][1] += v * w1;
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2; j++) store(y + i * ys + j * LANES, a[i][j]);
}

/* y[rows][padded(out)] = x[rows][xs] times w + bias; `room` is for x in bfloat16, null in fp32. */
static void matmul(long rows, const float *x, long xs, const void *w, const float *bias, float *y,
                   long out, long in, half *room) {
    long ys = padded(out), deep = padded(in);
    for (long r = 0; room && r < rows; r++) shorten(x + r * xs, in, room + r * deep, deep);
    for (long n = 0; n < out; n += COLS) {
        const float *b = bias ? bias + n : 0, *p = (const float *)w + n * in;
        if (room) {
            half_panel(rows, room, (const half *)w + n * deep, b, y + n, ys, deep);
            continue;
        }
        const float *next = p + COLS * in; /* half is fetched by the first rows */
        for (long r = 0, some; r < rows; r += some, next = p + COLS * in + LANES * in) {
            some = (rows - r) / ((rows - r + ROWS - 1) / ROWS); /* even shares: few rows wait for sums */
#define SHARE(k) case k: panel(k, x + r * xs, xs, p, b, y + r * ys + n, ys, in, next); break;
            switch (some) {
                SHARE(1) SHARE(2) SHARE(3) SHARE(4) SHARE(5) SHARE(6)
#if ROWS > 6
                SHARE(7) SHARE(8) SHARE(9) SHARE(10) SHARE(11) SHARE(12)
#endif
            }
        }
    }
}

static void normalise(const float *x, const float *w, const float *bias, float *y, long n, double eps,
                      long rms) {
    vec sum[PARTS] = {{0}}, squares[PARTS] = {{0}};
    if (!rms)
        for (long i = 0; i < n; i += LANES) sum[i / LANES % PARTS] += load(x + i);
    float mean = rms ? 0 : total(sum) / n;
    for (long i = 0; i < n; i += LANES) {
        vec d = load(x + i) - mean;
        squares[i / LANES % PARTS] += d * d;
    }
    float scale = 1.0f / sqrtf(total(squares) / n + (float)eps);
    for (long i = 0; i < n; i += LANES) {
        vec v = (load(x + i) - mean) * scale * load(w + i);
        if (bias) v += load(bias + i);
        store(y + i, v);
    }
}

static void rotate(const Model *m, float *x, long pos) {
    const float *c = m->cos + pos * m->turned, *s = m->sin + pos * m->turned;
    for (long i = 0; i < m->turned; i++) {
        float a = x[i], b = x[i + m->turned];
        x[i] = a * c[i] - b * s[i];
        x[i + m->turned] = b * c[i] + a * s[i];
    }
}

enum { KEYS, VALUES };

HERE long block_bytes(const Model *m) { return LANES * m->head_dim * (m->bf16 ? sizeof(half) : sizeof(float)); }

/* Return the start of a slot's keys or values of one layer and head. */
HERE char *stream(const Model *m, long slot, long layer, long head, int kind) {
    return m->kv + (((slot * m->layers + layer) * m->kv_heads + head) * 2 + kind) * m->blocks * block_bytes(m);
}

/* Normalise and rotate the queries and keys of one token, and store its keys and values. */
static void file(const Model *m, const Layer *l, long layer, float *qkv, long slot, long pos) {
    long d = m->head_dim, lane = pos % LANES;
    for (long h = 0; h < m->heads + m->kv_heads; h++) {
        const float *w = h < m->heads ? l->q_norm : l->k_norm;
        if (w) normalise(qkv + h * d, w, 0, qkv + h * d, d, m->eps, 1);
        if (m->turned) rotate(m, qkv + h * d, pos);
    }
    for (long h = 0; h < m->kv_heads; h++) {
        const float *k = qkv + (m->heads + h) * d, *v = k + m->kv_heads * d;
        char *keys = stream(m, slot, layer, h, KEYS) + pos / LANES * block_bytes(m);
        char *values = stream(m, slot, layer, h, VALUES) + pos / LANES * block_bytes(m);
        if (m->bf16) {
            half short_k[d], short_v[d];
            shorten(k, d, short_k, d);
            shorten(v, d, short_v, d);
            for (long i = 0; i < d; i++) {
                ((half *)keys)[(i & ~1) * LANES + 2 * lane + i % 2] = short_k[i];
                ((half *)values)[(lane & ~1) * d + 2 * i + lane % 2] = short_v[i];
            }
            continue;
        }
        for (long i = 0; i < d; i++) ((float *)keys)[i * LANES + lane] = k[i];
        memcpy((float *)values + lane * d, v, d * sizeof(float));
    }
}

/* The scores of one block of keys for each query. */
HERE void scores(int rows, const float *k, const float **q, long d, vec *s) {
    vec a[NEAR][4];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) a[r][j] = splat(0);
    for (long i = 0; i < d; i += 4)
        for (int j = 0; j < 4; j++) {
            vec key = load(k + (i + j) * LANES);
            for (int r = 0; r < rows; r++) a[r][j] += q[r][i + j] * key;
        }
    for (int r = 0; r < rows; r++) s[r] = (a[r][0] + a[r][1]) + (a[r][2] + a[r][3]);
}

/* Add `wide` * LANES channels of LANES positions, by each row's weights, to its sums, four a vector. */
HERE void mix(int rows, int wide, vec (*o)[2][4], const float *v, const float *e, long size, long d) {
    for (int j = 0; j < LANES; j++)
        for (int w = 0; w < wide; w++) {
            vec value = load(v + j * d + w * LANES);
            for (int r = 0; r < rows; r++) o[r][w][j % 4] += e[r * size + j] * value;
        }
}

HERE void keep(vec s, float *score, vec *top) {
    store(score, s);
    *top = pick(s > *top, s, *top);
}

/* out[row][heads][head_dim] = attention of each token over positions 0..pos of its slot; the first
   `common` blocks are at the same address for all. `wide`: vectors of channels summed at a time. */
HERE void attend(const Model *m, int rows, int wide, const long *row, long common, long layer,
                 const float *qkv, long ws, const long *slot, const long *pos, float *out, long as,
                 float *score, int bf16) {
    long d = m->head_dim, group = m->heads / m->kv_heads, size = m->blocks * LANES, bytes = block_bytes(m);
    float scale = 1.0f / sqrtf((float)d), part[NEAR];
    half short_q[d], *weight = (half *)score; /* written only where `score` was read already */
    for (long h = 0; h < m->heads; h++) {
        const float *q[NEAR];
        const char *own[NEAR][2], *base[NEAR][2]; /* streams */
        long shared[NEAR];
        vec s[NEAR], top[NEAR];
        for (int r = 0; r < rows; r++) {
            long at = slot[row[r]];
            shared[r] = m->shared[at];
            for (int kind = KEYS; kind <= VALUES; kind++) {
                own[r][kind] = stream(m, at, layer, h / group, kind);
                base[r][kind] = stream(m, m->base[at], layer, h / group, kind);
            }
            q[r] = qkv + row[r] * ws + h * d, top[r] = splat(-INFINITY);
        }
#define BLOCK(r, kind, b) ((const void *)(((b) < shared[r] ? base : own)[r][kind] + (b) * bytes))
        if (bf16) shorten(q[0], d, short_q, d);
        for (long b = 0; b < common; b++) {
            scores(rows, BLOCK(0, KEYS, b), q, d, s);
            for (int r = 0; r < rows; r++) keep(s[r] * scale, score + r * size + b * LANES, top + r);
        }
        for (int r = 0; r < rows; r++) {
            long p = pos[row[r]], blocks = p / LANES + 1;
            vec sum[PARTS] = {{0}};
            float *mine = score + r * size;
            for (long b = common; b < blocks; b++) {
                if (bf16) s[r] = half_scores(BLOCK(r, KEYS, b), short_q, d);
                else scores(1, BLOCK(r, KEYS, b), q + r, d, s + r);
                s[r] *= scale;
                if (b == blocks - 1)
                    for (long i = p % LANES + 1; i < LANES; i++) s[r][i] = -INFINITY;
                keep(s[r], mine + b * LANES, top + r);
            }
            float most = largest(top[r]);
            for (long b = 0; b < blocks; b++) {
                vec e = vexp(load(mine + b * LANES) - most);
                sum[b % PARTS] += e;
                if (bf16) shorten((float *)&e, LANES, weight + b * LANES, LANES);
                else store(mine + b * LANES, e);
            }
            part[r] = 1.0f / total(sum);
        }
        for (long i = 0; i < d; i += wide * LANES) {
            vec o[NEAR][2][4];
            for (int r = 0; r < rows; r++)
                for (int j = 0; j < 4 * wide; j++) o[r][j / 4][j % 4] = splat(0);
            for (long b = 0; b < common; b++)
                mix(rows, wide, o, (const float *)BLOCK(0, VALUES, b) + i, score + b * LANES, size, d);
            for (int r = 0; r < rows; r++) {
                for (long b = common; b <= pos[row[r]] / LANES; b++) { /* behind pos: 0 times what is finite */
                    const void *v = BLOCK(r, VALUES, b);
                    if (bf16) half_mix(o[r][0], (const half *)v + 2 * i, weight + b * LANES, d);
                    else mix(1, wide, o + r, (const float *)v + i, score + r * size + b * LANES, 0, d);
                }
                for (int w = 0; w < wide; w++)
                    store(out + row[r] * as + h * d + i + w * LANES,
                          ((o[r][w][0] + o[r][w][1]) + (o[r][w][2] + o[r][w][3])) * part[r]);
            }
        }
    }
}

/* Return how many of the first blocks two tokens read at the same address. */
HERE long shared_blocks(const Model *m, long slot, long pos, long other, long behind) {
    if (slot == other) return (pos < behind ? pos : behind) / LANES;
    if (m->base[slot] != m->base[other]) return 0;
    return m->shared[slot] < m->shared[other] ? m->shared[slot] : m->shared[other];
}

static void add(float *x, const float *y, long n) {
    for (long i = 0; i < n; i += LANES) store(x + i, load(x + i) + load(y + i));
}

static void attend_rows(const Model *m, long rows, long layer, const float *qkv, long ws, const long *slot,
                        const long *pos, float *out, long as, float *score) {
    char done[TILE] = {0};
    for (long r = 0; r < rows; r++) {
        long near[NEAR] = {r}, n = 1, common = m->blocks;
        if (done[r]) continue;
        for (long i = r + 1; i < rows && n < NEAR && !m->bf16; i++) {
            long same = done[i] ? 0 : shared_blocks(m, slot[r], pos[r], slot[i], pos[i]);
            if (same) near[n++] = i, common = same < common ? same : common;
        }
        if (n == NEAR)
            for (long i = 0; i < n; i++) done[near[i]] = 1;
        else common = 0;
#define ATTEND(rows, wide, bf16) \
    attend(m, rows, wide, near, common, layer, qkv, ws, slot, pos, out, as, score, bf16)
        if (n == NEAR) ATTEND(NEAR, 1, 0);
        else if (m->bf16) ATTEND(1, 1, 1);
        else if (m->head_dim % (2 * LANES)) ATTEND(1, 1, 0);
        else ATTEND(1, 2, 0);
    }
}

long lanes(void) { return LANES; }

/* Return the number of scratch floats that one call of `forward` needs. */
long scratch_floats(const Model *m) {
    long wide = padded((m->heads + 2 * m->kv_heads) * m->head_dim);
    long inner = padded(m->inner * (m->gated ? 2 : 1)), hidden = padded(m->hidden);
    long att = padded(m->heads * m->head_dim), deepest = inner + hidden + att; /* at least the largest */
    return TILE * (3 * hidden + wide + inner + att + deepest / 2) + NEAR * m->blocks * LANES;
}

/* Append n tokens to their slots, the tokens of a slot adjacent and in order; write the logits
   (padded(vocab) floats each) of the tokens with `wanted` in order, or of all if it is null. */
void forward(const Model *m, long n, const long *token, const long *slot, const long *pos,
             const char *wanted, float *logits, float *scratch) {
    long hid = m->hidden, hs = padded(hid), d = m->head_dim, att = m->heads * d, as = padded(att);
    long wide = (m->heads + 2 * m->kv_heads) * d, ws = padded(wide);
    long inner = m->inner * (m->gated ? 2 : 1), is = padded(inner);
    float *x = scratch, *h = x + TILE * hs, *y = h + TILE * hs, *qkv = y + TILE * hs;
    float *up = qkv + TILE * ws, *mixed = up + TILE * is, *score = mixed + TILE * as;
    half *room = m->bf16 ? (half *)(score + NEAR * m->blocks * LANES) : 0;
    open_tiles();
    for (long start = 0; start < n; start += TILE) {
        long rows = n - start < TILE ? n - start : TILE;
        const long *t = token + start, *s = slot + start, *p = pos + start;
        for (long r = 0; r < rows; r++) {
            memcpy(x + r * hs, m->embedding + t[r] * hid, hid * sizeof(float));
            if (m->positions) add(x + r * hs, m->positions + p[r] * hid, hid);
        }
        for (long l = 0; l < m->layers; l++) {
            const Layer *w = m->layer + l;
            for (long r = 0; r < rows; r++)
                normalise(x + r * hs, w->norm1, w->norm1_bias, h + r * hs, hid, m->eps, m->rms);
            matmul(rows, h, hs, w->qkv, w->qkv_bias, qkv, wide, hid, room);
            for (long r = 0; r < rows; r++) file(m, w, l, qkv + r * ws, s[r], p[r]);
            attend_rows(m, rows, l, qkv, ws, s, p, mixed, as, score);
            matmul(rows, mixed, as, w->out, w->out_bias, y, hid, att, room);
            if (!m->parallel) add(x, y, rows * hs);
            for (long r = 0; r < rows; r++)
                normalise(x + r * hs, w->norm2, w->norm2_bias, h + r * hs, hid, m->eps, m->rms);
            if (m->parallel) add(x, y, rows * hs);
            matmul(rows, h, hs, w->up, w->up_bias, up, inner, hid, room);
            for (long r = 0; r < rows; r++) {
                float *u = up + r * is;
                for (long i = 0; i < m->inner; i += LANES) {
                    vec a = activate(load(u + i), m->activation);
                    if (m->gated) a *= load(u + m->inner + i);
                    store(u + i, a);
                }
            }
            matmul(rows, up, is, w->down, w->down_bias, y, hid, m->inner, room);
            add(x, y, rows * hs);
        }
        long out = 0;
        for (long r = 0; r < rows; r++)
            if (!wanted || wanted[start + r])
                normalise(x + r * hs, m->norm, m->norm_bias, h + hs * out++, hid, m->eps, m->rms);
        matmul(out, h, hs, m->head, 0, logits, m->vocab, hid, room);
        logits += out * padded(m->vocab);
    }
    close_tiles();
}

/* Return the sum of exp((x - top) * beta) over SPAN of x, and write them to e. */
HERE float weights(const float *x, float top, float beta, vec *e) {
    for (int i = 0; i < PARTS; i++) e[i] = vexp((load(x + i * LANES) - top) * beta);
    return total(e);
}

/* Return the token of one row of logits by inverse CDF from softmax(logits / temperature), argmax at 0;
   add its log-probability at temperature 1 to sums[0] and as sampled to sums[1], NaN where the logits
   are. Writes -inf behind the vocabulary, up to padded(vocab). */
static long draw(long vocab, float *logits, double uniform, double temperature, double *sums) {
    float top = -INFINITY, beta = temperature > 0 ? 1 / temperature : 1;
    double one = 0, sampled = 0, sum = 0;
    long best = 0, bad = 0, chosen = -1, end = padded(vocab);
    for (long i = 0; i < vocab; i++) {
        bad |= isnan(logits[i]);
        if (logits[i] > top) top = logits[i], best = i;
    }
    for (long i = vocab; i < end; i++) logits[i] = -INFINITY;
    for (long i = 0; i < vocab; i += SPAN) {
        vec e[PARTS];
        one += weights(logits + i, top, 1, e);
        if (beta != 1) sampled += weights(logits + i, top, beta, e);
    }
    if (beta == 1) sampled = one;
    if (temperature == 0) chosen = best;
    for (long i = 0; chosen < 0 && i < end; i += SPAN) {
        vec parts[PARTS];
        const float *e = (const float *)parts;
        double after = sum + weights(logits + i, top, beta, parts);
        if (after > uniform * sampled || i + SPAN >= vocab)
            for (long j = 0; j < SPAN && (chosen < 0 || sum <= uniform * sampled); j++)
                if (e[j] > 0) sum += e[j], chosen = i + j;
        sum = after;
    }
    if (chosen < 0) chosen = best;
    double gap = (double)logits[chosen] - top;
    sums[0] += bad || isinf(top) ? NAN : gap - log(one);
    sums[1] += temperature > 0 ? gap * beta - log(sampled) : 0;
    return chosen;
}

void draw_rows(long n, long vocab, float *logits, const double *uniform, double temperature, long *token,
               double *sums) {
    for (long r = 0; r < n; r++)
        token[r] = draw(vocab, logits + r * padded(vocab), uniform[r], temperature, sums + 2 * r);
}

/* As `uniforms` in draw.py: SplitMix64 at state key + (position + 1) golden. */
static double uniform_at(unsigned long key, unsigned long position) {
    unsigned long z = key + (position + 1) * 0x9E3779B97F4A7C15ul;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ul;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBul;
    return ((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* Copy those of the positions 0..pos of `source` that `row` does not share. */
void copy_own(const Model *m, long source, long row, long pos) {
    long end = pos / LANES < m->blocks ? pos / LANES + 1 : m->blocks, bytes = block_bytes(m);
    for (long l = 0; l < m->layers; l++)
        for (long h = 0; h < m->kv_heads; h++)
            for (int kind = KEYS; kind <= VALUES; kind++)
                for (long b = m->shared[row]; b < end; b++) {
                    long from = b < m->shared[source] ? m->base[source] : source;
                    memcpy(stream(m, row, l, h, kind) + b * bytes, stream(m, from, l, h, kind) + b * bytes, bytes);
                }
}

/* Sort n rows that read `from` by the `tokens` that they have just drawn. Rows with equal tokens
   continue as one group, led by the first of them; a leader other than `from` gets its own keys. */
static void part(const Model *m, long n, long *row, const long *tokens, long steps, long from, long pos,
                 long *lead) {
    for (long i = 0, end; i < n; i = end) {
        long first = row[i];
        end = i + 1;
        for (long j = end; j < n; j++) {
            long r = row[j];
            if (tokens[r * steps] == tokens[first * steps]) row[j] = row[end], row[end++] = r;
        }
        if (first != from) copy_own(m, from, first, pos);
        for (long j = i; j < end; j++) lead[row[j]] = first;
    }
}

/* As `part`, for n rows sorted by context: `token` holds the last token of each row. */
void part_rows(const Model *m, long n, long *row, long *lead, const long *token, const long *position) {
    for (long i = 0, end; i < n; i = end) {
        long from = lead[row[i]];
        for (end = i + 1; end < n && lead[row[end]] == from;) end++;
        part(m, end - i, row + i, token, 1, from, position[row[i]], lead);
    }
}

/* Decode n rows (slots of the same number): at most `steps` tokens each, fewer if a row stops
   (`is_stop`) or `left` runs out. Rows of one context are adjacent in `row`, after their leader
   (`lead`), which computes for all; they separate when they draw different tokens. `position`: where
   `last` will be stored; `drawn`: tokens drawn so far in this step. Writes tokens[row][steps], how
   many of them were made, and both sums; `row` is used up. */
void decode(const Model *m, long n, long *row, long *lead, long steps, const long *last, const long *position,
            const unsigned long *key, const long *drawn, const long *left, const char *is_stop,
            double temperature, long *tokens, long *made, double *sums, float *logits, float *scratch) {
    for (long step = 0, kept; step < steps && n; step++, n = kept) {
        kept = 0;
        for (long next = 0; next < n;) {
            long slot[TILE], token[TILE], pos[TILE], from[TILE + 1], classes = 0;
            for (; next < n && classes < TILE; classes++) {
                long r = slot[classes] = row[next];
                token[classes] = step ? tokens[r * steps + step - 1] : last[r];
                pos[classes] = position[r] + step;
                from[classes] = next++;
                while (next < n && lead[row[next]] == r) next++;
            }
            from[classes] = next;
            forward(m, classes, token, slot, pos, 0, logits, scratch);
            for (long c = 0; c < classes; c++) {
                long begin = kept;
                for (long i = from[c]; i < from[c + 1]; i++) {
                    long r = row[i];
                    double u = uniform_at(key[r], drawn[r] + step);
                    long t = draw(m->vocab, logits + c * padded(m->vocab), u, temperature, sums + 2 * r);
                    tokens[r * steps + step] = t;
                    made[r] = step + 1;
                    if (!is_stop[t] && made[r] != left[r] && !isnan(sums[2 * r])) row[kept++] = r;
                }
                part(m, kept - begin, row + begin, tokens + step, steps, slot[c], pos[c], lead);
            }
        }
    }
}
