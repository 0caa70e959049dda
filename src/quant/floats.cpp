#include "quant/floats.h"

#include <cstring>

#include "quant/float_bits.h"

namespace ds4::quant {
namespace {

template <typename T, bool (*is_bad)(T)>
std::size_t find_bad_value(const std::byte* values, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        if (is_bad(load<T>(values + i * sizeof(T)))) return i;
    }
    return n;
}

void decode_f32(const std::byte* blocks, float* values, std::size_t n) {
    if (n != 0) std::memcpy(values, blocks, n * sizeof(float));
}

void encode_f32(const float* values, std::byte* blocks, std::size_t n) {
    if (n != 0) std::memcpy(blocks, values, n * sizeof(float));
}

template <float (*convert)(std::uint16_t)>
void decode_16bit(const std::byte* blocks, float* values, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) values[i] = convert(load<std::uint16_t>(blocks + 2 * i));
}

template <std::uint16_t (*convert)(float)>
void encode_16bit(const float* values, std::byte* blocks, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) store(blocks + 2 * i, convert(values[i]));
}

}  // namespace

constinit const Format kF32{
    Type::f32, "F32", 1, 4, decode_f32, encode_f32, find_bad_value<float, is_f32_nonfinite>};
constinit const Format kF16{Type::f16,
                            "F16",
                            1,
                            2,
                            decode_16bit<f16_to_f32>,
                            encode_16bit<f32_to_f16>,
                            find_bad_value<std::uint16_t, is_f16_nonfinite>};
constinit const Format kBf16{Type::bf16,
                             "BF16",
                             1,
                             2,
                             decode_16bit<bf16_to_f32>,
                             encode_16bit<f32_to_bf16>,
                             find_bad_value<std::uint16_t, is_bf16_nonfinite>};

}  // namespace ds4::quant
