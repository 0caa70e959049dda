#include "backend/invariance_cases.h"

#include <gtest/gtest.h>

#include <bit>

namespace ds4::test {
namespace {

using quant::Type;

constexpr std::int64_t kRows = 9;

// Rows [first, first + n) of kRows random ones.
Rows some(Device& device, Random& random, std::int64_t width, std::int64_t first, std::int64_t n,
          std::int64_t n_rows = kRows) {
    return device.rows(random.gaussian(n_rows * width), width).slice(first, n);
}

template <Type type>
std::vector<float> matmul(Device& device, std::int64_t first, std::int64_t n) {
    Random random(1);
    const Matrix w = device.matrix(random, type, 70, 512);
    const Rows y = device.result(n, 70);
    device.backend().matmul(w, some(device, random, 512, first, n), y);
    return device.download(y);
}

std::vector<float> norm_matmul(Device& device, std::int64_t first, std::int64_t n) {
    Random random(8);
    const Vector norm = device.vector(random.gaussian(512));
    const Rows y = device.result(n, 70);
    const Backend::Product product{device.matrix(random, Type::q8_0, 70, 512), y};
    device.backend().norm_matmul(some(device, random, 512, first, n), norm, 1e-6F, {&product, 1});
    return device.download(y);
}

std::vector<float> grouped_matmul(Device& device, std::int64_t first, std::int64_t n) {
    Random random(2);
    const Matrix w = device.grouped_matrix(random, Type::q8_0, 4, 40, 64);
    const Rows y = device.result(n, 40);
    device.backend().grouped_matmul(w, 4, some(device, random, 256, first, n), y);
    return device.download(y);
}

std::vector<float> rms_norm(Device& device, std::int64_t first, std::int64_t n) {
    Random random(3);
    const Rows x = some(device, random, 333, first, n);
    device.backend().rms_norm(x, device.vector(random.gaussian(333)), 333, 1e-6F, x);
    return device.download(x);
}

template <std::int64_t width>
std::vector<float> hyper_connection(Device& device, std::int64_t first, std::int64_t n) {
    Random random(4);
    HyperConnection hc;
    hc.fn = device.matrix(random, Type::f16, 24, 4 * width, 1, Backend::MatrixUse::mixing);
    hc.base = device.vector(random.gaussian(24));
    hc.scale = device.vector(random.gaussian(3));
    hc.n_streams = 4;
    hc.sinkhorn_iterations = 20;
    hc.eps = 1e-6F;
    const Rows streams = some(device, random, 4 * width, first, n);
    const Rows y = some(device, random, width, first, n);
    const Rows x = device.result(n, width);
    const Rows post = device.result(n, 4);
    const Rows comb = device.result(n, 16);
    device.backend().hc_collapse(hc, streams, x, post, comb);
    device.backend().hc_expand(y, post, comb, streams);
    device.backend().hc_collapse(hc, streams, x, post, comb);
    device.backend().add(x, streams);
    return device.download(streams);
}

std::vector<float> rotate_and_round(Device& device, std::int64_t first, std::int64_t n) {
    Random random(5);
    const std::vector<float> frequency = random.gaussian(16);
    const std::vector<std::int32_t> positions{1, 5, 70, 999, 1000, 65536, 65537, 1000000, 1048575};
    const Rows x = some(device, random, 256, first, n);
    device.backend().rope({frequency.data(), 32}, std::span(positions).subspan(first, n), 64, false, x);
    device.backend().round_hadamard_fp4(x, 64);
    device.backend().rope({frequency.data(), 32}, std::span(positions).subspan(first, n), 64, true, x);
    device.backend().round_fp8(x, 64, true);
    return device.download(x);
}

std::vector<float> swiglu(Device& device, std::int64_t first, std::int64_t n) {
    Random random(6);
    const Rows gate = some(device, random, 333, first, n);
    device.backend().swiglu(gate, some(device, random, 333, first, n), 10);
    return device.download(gate);
}

// Router and experts; the router's choice makes the number of rows per expert depend on the batch.
template <Type gate_type, Type down_type>
std::vector<float> mixture(Device& device, std::int64_t first, std::int64_t n, std::int64_t n_rows) {
    constexpr std::int64_t kExperts = 7, kUsed = 3;
    Random random(7);
    const Experts experts = device.experts(random, {gate_type, gate_type, down_type}, kExperts, 256, 256, 10);
    Router router;
    router.n_used = kUsed;
    const Rows logits = some(device, random, kExperts, first, n, n_rows);
    const Rows x = some(device, random, 256, first, n, n_rows);
    const Routing routing{device.allocate<std::int32_t>(n * kUsed), device.allocate<float>(n * kUsed), kUsed};
    const Rows y = device.result(n, 256);
    device.backend().route(router, std::vector<TokenId>(n), logits, routing);
    device.backend().routed_experts(experts, routing, x, y);
    return device.download(y);
}

}  // namespace

void expect_same_bits(const std::vector<float>& actual, const std::vector<float>& expected,
                      const std::string& where) {
    ASSERT_EQ(actual.size(), expected.size()) << where;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(actual[i]), std::bit_cast<std::uint32_t>(expected[i]))
            << where << "[" << i << "] is " << actual[i] << ", not " << expected[i];
    }
}

std::vector<RowOp> row_ops() {
    return {
        {"matmul_F32", kRows, matmul<Type::f32>},
        {"matmul_BF16", kRows, matmul<Type::bf16>},
        {"matmul_F16", kRows, matmul<Type::f16>, true},
        {"matmul_Q8_0", kRows, matmul<Type::q8_0>, true},
        {"matmul_Q2_K", kRows, matmul<Type::q2_k>},
        {"matmul_Q4_K", kRows, matmul<Type::q4_k>},
        {"matmul_IQ2_XXS", kRows, matmul<Type::iq2_xxs>},
        {"matmul_MXFP4", kRows, matmul<Type::mxfp4>},
        {"norm_matmul", kRows, norm_matmul, true},
        {"grouped_matmul", kRows, grouped_matmul},
        {"rms_norm", kRows, rms_norm},
        {"hyper_connection", kRows, hyper_connection<75>, true},
        {"hyper_connection_flash", 5, hyper_connection<4096>, true},
        {"rotate_and_round", kRows, rotate_and_round},
        {"swiglu", kRows, swiglu},
        {"experts_F32", kRows,
         [](Device& d, std::int64_t first, std::int64_t n) {
             return mixture<Type::f32, Type::f32>(d, first, n, kRows);
         }},
        {"experts_flash", kRows,
         [](Device& d, std::int64_t first, std::int64_t n) {
             return mixture<Type::iq2_xxs, Type::q2_k>(d, first, n, kRows);
         },
         true},
        {"experts_mixed", kRows,
         [](Device& d, std::int64_t first, std::int64_t n) {
             return mixture<Type::q4_k, Type::q8_0>(d, first, n, kRows);
         }},
    };
}

std::vector<float> run_in_batches(const RowOp& op, Backend& backend, std::int64_t batch) {
    std::vector<float> all;
    for (std::int64_t first = 0; first < op.n_rows; first += batch) {
        Device device(backend);
        const std::vector<float> part = op.run(device, first, std::min(batch, op.n_rows - first));
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

std::vector<float> q8_0_experts(Device& device, std::int64_t first, std::int64_t n, std::int64_t n_rows) {
    return mixture<Type::q8_0, Type::q8_0>(device, first, n, n_rows);
}

std::vector<float> feed_alone(Backend& backend, std::int64_t ratio, const Text& text,
                              const std::vector<std::int64_t>& chunks) {
    Device device(backend);
    Layer layer(device, ratio);
    layer.begin(text);
    std::int64_t left = kTokens;
    for (std::size_t i = 0; left > 0; ++i) {
        const std::int64_t n = std::min(left, chunks[i % chunks.size()]);
        layer.step({n});
        left -= n;
    }
    return layer.everything(0);
}

}  // namespace ds4::test
