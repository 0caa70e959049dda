#include "backend/cpu/vector.h"

#include "backend/cpu/simd_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/vector.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After foreach_target.h: included anew for each target.
#include "backend/cpu/vector_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

float SumOfSquares(const float* x, std::size_t n) {
    constexpr std::size_t kSums = 4;  // independent sums keep the multiply-add units busy
    VF sums[kSums];
    for (VF& sum : sums) sum = hn::Zero(DF());
    std::size_t i = 0;
    for (; i + kSums * kLanes <= n; i += kSums * kLanes) {
        for (std::size_t s = 0; s < kSums; ++s) {
            const VF v = load(x + i + s * kLanes);
            sums[s] = hn::MulAdd(v, v, sums[s]);
        }
    }
    for (; i < n; i += kLanes) {
        const VF v = load(x + i, n - i);
        sums[0] = hn::MulAdd(v, v, sums[0]);
    }
    return sum_lanes(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

void Scale(const float* x, float scale, const float* gain, std::size_t n, float* y) {
    const VF factor = hn::Set(DF(), scale);
    for (std::size_t i = 0; i < n; i += kLanes) {
        VF v = hn::Mul(load(x + i, n - i), factor);
        if (gain != nullptr) v = hn::Mul(v, load(gain + i, n - i));
        store(v, y + i, n - i);
    }
}

void Add(const float* x, std::size_t n, float* y) {
    for (std::size_t i = 0; i < n; i += kLanes) {
        store(hn::Add(load(y + i, n - i), load(x + i, n - i)), y + i, n - i);
    }
}

void RotatePairs(const float* table, bool inverse, std::size_t n, float* x, std::size_t n_heads,
                 std::size_t stride) {
#if HWY_TARGET == HWY_SCALAR
    for (std::size_t i = 0; i < n; i += 2) {
        const float cosine = table[i];
        const float sine = inverse ? -table[n + i + 1] : table[n + i + 1];
        for (float* at = x + i; at < x + n_heads * stride; at += stride) {
            const float a = at[0];
            const float b = at[1];
            at[0] = a * cosine - b * sine;
            at[1] = b * cosine + a * sine;
        }
    }
#else
    const VF flip = hn::Set(DF(), inverse ? -0.0F : 0.0F);
    for (std::size_t i = 0; i < n; i += kLanes) {
        const std::size_t left = n - i;
        const VF cosine = load(table + i, left);
        const VF sine = hn::Xor(load(table + n + i, left), flip);
        for (float* at = x + i; at < x + n_heads * stride; at += stride) {
            const VF v = load(at, left);
            store(hn::Add(hn::Mul(v, cosine), hn::Mul(hn::Shuffle2301(v), sine)), at, left);
        }
    }
#endif
}

// min(v, limit) that keeps a NaN
HWY_INLINE VF at_most(VF v, VF limit) {
    return hn::IfThenElse(hn::Gt(v, limit), limit, v);
}
HWY_INLINE VF at_least(VF v, VF limit) {
    return hn::IfThenElse(hn::Lt(v, limit), limit, v);
}

void Swiglu(const float* gate, const float* up, float clamp, float weight, std::size_t n, float* out) {
    const VF limit = hn::Set(DF(), clamp);
    const VF one = hn::Set(DF(), 1.0F);
    const VF max_exponent =
        hn::Set(DF(), 88.0F);  // the largest that exp takes; silu is zero to 36 digits there
    const VF factor = hn::Set(DF(), weight);
    for (std::size_t i = 0; i < n; i += kLanes) {
        VF g = load(gate + i, n - i);
        VF u = load(up + i, n - i);
        if (clamp > 1e-6F) {
            g = at_most(g, limit);
            u = at_least(at_most(u, limit), hn::Neg(limit));
        }
        const VF silu = hn::Div(g, hn::Add(one, exp(at_most(hn::Neg(g), max_exponent))));
        store(hn::Mul(hn::Mul(silu, u), factor), out + i, n - i);
    }
}

void CollapseStreams(const float* weight, const float* streams, std::size_t n_streams, std::size_t n,
                     float* out) {
    for (std::size_t i = 0; i < n; i += kLanes) {
        VF sum = hn::Zero(DF());
        for (std::size_t m = 0; m < n_streams; ++m) {
            sum = hn::MulAdd(hn::Set(DF(), weight[m]), load(streams + m * n + i, n - i), sum);
        }
        store(sum, out + i, n - i);
    }
}

void ExpandStreams(const float* post, const float* comb, const float* y, std::size_t n_streams, std::size_t n,
                   float* streams) {
    constexpr std::size_t kMaxStreams = 16;
    VF old[kMaxStreams];
    for (std::size_t i = 0; i < n; i += kLanes) {
        for (std::size_t j = 0; j < n_streams; ++j) old[j] = load(streams + j * n + i, n - i);
        const VF y_part = load(y + i, n - i);
        for (std::size_t k = 0; k < n_streams; ++k) {
            VF sum = hn::Mul(hn::Set(DF(), post[k]), y_part);
            for (std::size_t j = 0; j < n_streams; ++j) {
                sum = hn::MulAdd(hn::Set(DF(), comb[j * n_streams + k]), old[j], sum);
            }
            store(sum, streams + k * n + i, n - i);
        }
    }
}

void SoftmaxPool(const float* const* value, const float* const* score, std::size_t n_slots, std::size_t n,
                 float* out) {
    for (std::size_t i = 0; i < n; i += kLanes) {
        VF top = load(score[0] + i, n - i);
        for (std::size_t s = 1; s < n_slots; ++s) top = hn::Max(top, load(score[s] + i, n - i));
        VF sum = hn::Zero(DF());
        VF weighted = hn::Zero(DF());
        for (std::size_t s = 0; s < n_slots; ++s) {
            const VF e = exp(hn::Sub(load(score[s] + i, n - i), top));
            sum = hn::Add(sum, e);
            weighted = hn::MulAdd(e, load(value[s] + i, n - i), weighted);
        }
        store(hn::Div(weighted, sum), out + i, n - i);
    }
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds4::cpu {

HWY_EXPORT(SumOfSquares);
HWY_EXPORT(Scale);
HWY_EXPORT(Add);
HWY_EXPORT(RotatePairs);
HWY_EXPORT(Swiglu);
HWY_EXPORT(CollapseStreams);
HWY_EXPORT(ExpandStreams);
HWY_EXPORT(SoftmaxPool);

float sum_of_squares(const float* x, std::size_t n) {
    return HWY_DYNAMIC_DISPATCH(SumOfSquares)(x, n);
}

void scale(const float* x, float scale, const float* gain, std::size_t n, float* y) {
    HWY_DYNAMIC_DISPATCH(Scale)(x, scale, gain, n, y);
}

void add(const float* x, std::size_t n, float* y) {
    HWY_DYNAMIC_DISPATCH(Add)(x, n, y);
}

void rotate_pairs(const float* table, bool inverse, std::size_t n, float* x, std::size_t n_heads,
                  std::size_t stride) {
    HWY_DYNAMIC_DISPATCH(RotatePairs)(table, inverse, n, x, n_heads, stride);
}

void swiglu(const float* gate, const float* up, float clamp, float weight, std::size_t n, float* out) {
    HWY_DYNAMIC_DISPATCH(Swiglu)(gate, up, clamp, weight, n, out);
}

void collapse_streams(const float* weight, const float* streams, std::size_t n_streams, std::size_t n,
                      float* out) {
    HWY_DYNAMIC_DISPATCH(CollapseStreams)(weight, streams, n_streams, n, out);
}

void expand_streams(const float* post, const float* comb, const float* y, std::size_t n_streams,
                    std::size_t n, float* streams) {
    HWY_DYNAMIC_DISPATCH(ExpandStreams)(post, comb, y, n_streams, n, streams);
}

void softmax_pool(const float* const* value, const float* const* score, std::size_t n_slots, std::size_t n,
                  float* out) {
    HWY_DYNAMIC_DISPATCH(SoftmaxPool)(value, score, n_slots, n, out);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
