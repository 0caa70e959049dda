#include <cmath>

#include "backend/op_cases.h"

namespace ds4::test {
namespace {

using quant::Type;

struct RouteCase {
    bool bias, hash, normalise, ties;
};

Outputs route(Device& device, Random& random, const RouteCase& c) {
    const std::int64_t n_experts = random.integer(8, 70);
    const std::int64_t n_used = random.integer(1, 8);
    const std::int64_t n = random.integer(1, 40);
    constexpr std::int64_t kVocab = 13;
    std::vector<std::int32_t> hash;
    for (std::int64_t i = 0; i < kVocab * n_used; ++i) {
        hash.push_back(static_cast<std::int32_t>(random.integer(0, n_experts - 1)));
    }
    std::vector<TokenId> tokens;
    for (std::int64_t i = 0; i < n; ++i)
        tokens.push_back(static_cast<TokenId>(random.integer(0, kVocab - 1)));

    Router router;
    router.n_used = n_used;
    router.weight_scale = 1.5F;
    router.normalise = c.normalise;
    if (c.bias) router.bias = device.vector(random.gaussian(n_experts, 0.3F));
    if (c.hash) router.hash = device.upload(hash);
    // Ties: a handful of different logits; otherwise some above 20 and some far below zero.
    const Rows logits = device.rows(
        c.ties ? random.integers(n * n_experts, 2) : random.gaussian(n * n_experts, 12), n_experts);
    const Routing out{device.allocate<std::int32_t>(static_cast<std::size_t>(n * n_used)),
                      device.allocate<float>(static_cast<std::size_t>(n * n_used)), n_used};
    device.backend().route(router, tokens, logits, out);
    return {{"expert", as_floats(device.download(out.expert, n * n_used)), {}},
            {"weight", device.download(out.weight, n * n_used), {.typical = 1e-6}}};
}

// All affinities so small that the floor of the denominator counts, model.md 10.
Outputs route_floor(Device& device, Random& random) {
    std::vector<float> values = random.gaussian(3 * 8);
    for (float& v : values) v = v * 0.1F - 24;
    const Rows logits = device.rows(values, 8);
    const Routing out{device.allocate<std::int32_t>(6), device.allocate<float>(6), 2};
    Router router;
    router.n_used = 2;
    router.weight_scale = 1.5F;
    device.backend().route(router, std::vector<TokenId>(3), logits, out);
    return {{"weight", device.download(out.weight, 6), {.typical = 1e-6}}};
}

struct ExpertCase {
    Type gate, up, down;
    float clamp;
};

// Quantised down-projections meet activations rounded to int8: an error of amax / 127 / 12^0.5 per value,
// where amax of a heavy-tailed block is 3 to 8 times its root mean square, makes 1 to 2 % of the output; a
// wrong term makes 100.
constexpr Tolerance kInt8Hidden{.typical = 0.12};

Outputs routed_experts(Device& device, Random& random, const ExpertCase& c, std::int64_t n,
                       std::int64_t n_experts, std::int64_t e, std::int64_t f) {
    const std::int64_t n_used = random.integer(1, 6);
    const Experts experts = device.experts(random, {c.gate, c.up, c.down}, n_experts, e, f, c.clamp);
    std::vector<std::int32_t> expert;
    for (std::int64_t i = 0; i < n * n_used; ++i) {
        // The first expert is popular; some get nothing.
        expert.push_back(
            static_cast<std::int32_t>(random.integer(0, 2) == 0 ? 0 : random.integer(0, n_experts - 1)));
    }
    std::vector<float> weight = random.gaussian(n * n_used);
    const Routing routing{device.upload(expert), device.upload(weight), n_used};
    const Rows x = device.rows(random.int8_exact(n * e), e);
    const Rows y = device.result(n, e);
    device.backend().routed_experts(experts, routing, x, y);
    const bool exact = quant::format(c.down).block_elems == 1;
    return {{"y", device.download(y), exact ? kF32 : kInt8Hidden}};
}

// With a shared expert beside the routed ones.
Outputs mixture(Device& device, Random& random, const Device::ExpertTypes& types,
                const Device::ExpertTypes& shared_types) {
    constexpr std::int64_t kExperts = 9, kWidth = 512, kHidden = 256;
    const std::int64_t n = random.integer(1, 40), n_used = random.integer(1, 6);
    const Experts routed = device.experts(random, types, kExperts, kWidth, kHidden, 10);
    const Experts shared = device.experts(random, shared_types, 1, kWidth, kHidden, 7);
    std::vector<std::int32_t> expert;
    for (std::int64_t i = 0; i < n * n_used; ++i) {
        expert.push_back(
            static_cast<std::int32_t>(random.integer(0, 2) == 0 ? 3 : random.integer(0, kExperts - 1)));
    }
    const Routing routing{device.upload(expert), device.upload(random.gaussian(n * n_used)), n_used};
    const Rows x = device.rows(random.int8_exact(n * kWidth), kWidth);
    const Rows act = device.result(n, kHidden);
    const Rows y = device.result(n, kWidth);
    device.backend().gated_matmul(shared, x, device.result(n, kHidden), act);
    device.backend().mixture(routed, routing, x, shared, act, device.result(n, kWidth), y);
    // Two sums of rounded activations, and up to 20,000 results of which the worst is looked at.
    return {{"y", device.download(y), {.typical = 2 * kInt8Hidden.typical}}};
}

}  // namespace

std::vector<OpCase> expert_cases() {
    std::vector<OpCase> cases;
    const auto add_route = [&](const std::string& name, const RouteCase& c) {
        cases.push_back({name, 8, [c](Device& d, Random& r) { return route(d, r, c); }});
    };
    add_route("route_bias", {true, false, true, false});
    add_route("route_without_bias", {false, false, true, false});
    add_route("route_ties", {false, false, true, true});
    add_route("route_hash", {false, true, true, false});
    add_route("route_not_normalised", {true, false, false, false});
    cases.push_back({"route_floor", 2, route_floor});

    const auto add_experts = [&](const std::string& name, const ExpertCase& c) {
        cases.push_back({name, 4, [c](Device& d, Random& r) {
                             const std::int64_t n = r.integer(0, 1) == 0 ? r.integer(1, 3) : r.integer(4, 60);
                             return routed_experts(d, r, c, n, r.integer(1, 9), 256 * r.integer(1, 2), 256);
                         }});
    };
    add_experts("experts_f32", {Type::f32, Type::f32, Type::f32, 10});
    add_experts("experts_bf16_clamped", {Type::bf16, Type::bf16, Type::bf16, 0.5F});
    add_experts("experts_unclamped", {Type::q8_0, Type::q8_0, Type::f16, 0});
    add_experts("experts_mixed", {Type::q8_0, Type::q4_k, Type::f32, 1});
    add_experts("experts_flash_types", {Type::iq2_xxs, Type::iq2_xxs, Type::q2_k, 10});
    add_experts("experts_q4_k", {Type::q4_k, Type::q4_k, Type::q4_k, 10});
    add_experts("experts_mxfp4", {Type::mxfp4, Type::mxfp4, Type::mxfp4, 10});
    const auto add_mixture = [&](const std::string& name, const Device::ExpertTypes& types,
                                 const Device::ExpertTypes& shared) {
        cases.push_back(
            {name, 2, [types, shared](Device& d, Random& r) { return mixture(d, r, types, shared); }});
    };
    constexpr Device::ExpertTypes kFlash{Type::iq2_xxs, Type::iq2_xxs, Type::q2_k};
    constexpr Device::ExpertTypes kQ8{Type::q8_0, Type::q8_0, Type::q8_0};
    add_mixture("mixture_flash", kFlash, kQ8);
    add_mixture("mixture_q4_k", {Type::q4_k, Type::q4_k, Type::q4_k}, kQ8);
    add_mixture("mixture_q8_0", kQ8, kQ8);
    add_mixture("mixture_bf16_shared", kFlash, {Type::bf16, Type::bf16, Type::bf16});
    cases.push_back({"experts_many_rows", 1, [](Device& d, Random& r) {
                         return routed_experts(d, r, {Type::f32, Type::f32, Type::f32, 10}, 700, 5, 48, 80);
                     }});
    return cases;
}

}  // namespace ds4::test
