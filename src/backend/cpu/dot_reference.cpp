#include <cstdint>
#include <vector>

#include "backend/cpu/dot.h"
#include "backend/cpu/dot_activation.h"
#include "quant/float_bits.h"

namespace ds4::cpu {
namespace {

// (n) values of a prepared activation row; exact in double.
std::vector<double> decode_activation(ActivationFormat format, const std::byte* act, std::size_t n) {
    std::vector<double> values(n);
    for (std::size_t i = 0; i < n; ++i) {
        if (format == ActivationFormat::f32) {
            values[i] = quant::load<float>(act + i * sizeof(float));
            continue;
        }
        const bool q8_0 = format == ActivationFormat::q8_0;
        const std::size_t scales = q8_0 ? q8_0_scales_offset(n) : q8_k_scales_offset(n);
        const std::size_t block = i / (q8_0 ? kQ8_0Block : kQ8KBlock);
        const double code = quant::load<std::int8_t>(act + i);
        values[i] = code * quant::load<float>(act + scales + block * sizeof(float));
    }
    return values;
}

}  // namespace

double dot_reference(quant::Type type, const std::byte* w, std::size_t n, const std::byte* act) {
    std::vector<float> weights(n);
    quant::format(type).decode(w, weights.data(), n);
    const std::vector<double> activations = decode_activation(activation_format(type), act, n);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += weights[i] * activations[i];
    return sum;
}

}  // namespace ds4::cpu
