#include "backend/cpu/kv_rows.h"

#include "backend/cpu/simd_config.h"
#include "quant/float_bits.h"
#include "quant/rounding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kv_rows.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After foreach_target.h: included anew for each target.
#include "backend/cpu/vector_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ds4::cpu::HWY_NAMESPACE {

using DHalf = hn::Rebind<hwy::float16_t, DF>;
using DHalfBits = hn::Rebind<std::uint16_t, DF>;
using DByte = hn::Rebind<std::uint8_t, DF>;

// A row has a multiple of 64 codes, so vectors of at most 16 values divide it.
static_assert(quant::kFp8Block % kLanes == 0);

// Exponent and mantissa of an E4M3 code stand as in F16, 8 exponent steps too low.
HWY_INLINE VF load_e4m3(const std::uint8_t* codes) {
    const DHalfBits half;
    const auto code = hn::PromoteTo(half, hn::LoadU(DByte(), codes));
    const auto sign = hn::ShiftLeft<8>(hn::And(code, hn::Set(half, 0x80)));
    const auto magnitude = hn::ShiftLeft<7>(hn::And(code, hn::Set(half, 0x7f)));
    const VF value = hn::PromoteTo(DF(), hn::BitCast(DHalf(), hn::Or(sign, magnitude)));
    return hn::Mul(value, hn::Set(DF(), 256.0F));
}

void DecodeFp8Row(const std::byte* row, std::size_t n, std::size_t n_tail, float* x) {
    const auto* scales = reinterpret_cast<const std::uint8_t*>(row);
    const std::uint8_t* codes = scales + n / quant::kFp8Block;
    for (std::size_t b = 0; b < n; b += quant::kFp8Block) {
        const VF scale = hn::Set(DF(), quant::e8m0_to_f32(scales[b / quant::kFp8Block]));
        for (std::size_t i = b; i < b + quant::kFp8Block; i += kLanes) {
            hn::StoreU(hn::Mul(load_e4m3(codes + i), scale), DF(), x + i);
        }
    }
    const std::uint8_t* tail = codes + n;
    std::size_t i = 0;
    for (; i + kLanes <= n_tail; i += kLanes) {
        HWY_ALIGN std::uint16_t bits[kLanes];
        std::memcpy(bits, tail + 2 * i, sizeof bits);
        hn::StoreU(hn::PromoteTo(DF(), hn::BitCast(DHalf(), hn::Load(DHalfBits(), bits))), DF(), x + n + i);
    }
    for (; i < n_tail; ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, tail + 2 * i, sizeof bits);
        x[n + i] = quant::f16_to_f32(bits);
    }
}

}  // namespace ds4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ds4::cpu {

HWY_EXPORT(DecodeFp8Row);

void decode_kv_row(const quant::KvRowFormat& format, const std::byte* row, float* values) {
    if (format.code != quant::KvRowFormat::Code::fp8) return quant::decode_kv_row(format, row, values);
    HWY_DYNAMIC_DISPATCH(DecodeFp8Row)
    (row, static_cast<std::size_t>(format.width - format.n_tail), static_cast<std::size_t>(format.n_tail),
     values);
}

}  // namespace ds4::cpu
#endif  // HWY_ONCE
