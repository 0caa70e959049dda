#include "quant/format.h"

#include <algorithm>
#include <array>

#include "quant/floats.h"
#include "quant/iq2_xxs.h"
#include "quant/mxfp4.h"
#include "quant/q2_k.h"
#include "quant/q4_k.h"
#include "quant/q8_0.h"

namespace ds4::quant {
namespace {

// Data, such as expert ids per token: it is never decoded to floats.
constexpr Format kI32{Type::i32, "I32", 1, 4, nullptr, nullptr, nullptr};

}  // namespace

std::span<const Format> formats() {
    static const std::array kFormats{kF32, kF16, kQ8_0, kQ2K, kQ4K, kIQ2XXS, kI32, kBf16, kMxfp4};
    return kFormats;
}

const Format* find_format(std::uint32_t ggml_type_id) {
    const auto known = formats();
    const auto it = std::ranges::find(known, static_cast<Type>(ggml_type_id), &Format::type);
    return it == known.end() ? nullptr : &*it;
}

const Format& format(Type type) {
    return *find_format(static_cast<std::uint32_t>(type));
}

}  // namespace ds4::quant
