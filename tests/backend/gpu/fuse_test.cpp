#include "backend/gpu/fuse.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "backend/gpu/devices.h"
#include "backend/invariance_cases.h"

namespace ds4::test {
namespace {

namespace ops = gpu::ops;

constexpr std::int64_t kRows = 3, kDim = 192, kRotated = 64;

ops::RmsNorm norm(Rows x) {
    return {x, {}, kDim, 1e-6F, x};
}
ops::Rope rope(Rows x) {
    return {x, nullptr, nullptr, kRotated, kDim, false};
}

TEST(Fuse, TakesOnlyWhatFits) {
    float memory[2] = {};
    const Rows row{memory, kRows, kDim};
    const Rows heads{memory, kRows, 2 * kDim};
    const Rows other{memory + 1, kRows, kDim};
    const auto n = [](const std::vector<ops::Op>& list) { return gpu::fuse(list).size(); };
    EXPECT_EQ(n({norm(row), rope(row), ops::RoundFp8{row, kRotated, true}}), 1U);
    EXPECT_EQ(n({norm(heads), rope(heads), norm(row), rope(row)}), 2U);
    EXPECT_EQ(n({norm(heads), rope(heads), ops::RoundFp8{heads, kRotated, true}}), 2U);  // rows of two heads
    EXPECT_EQ(n({norm(row), rope(row), ops::RoundFp8{other, kRotated, true}}), 2U);
    EXPECT_EQ(n({norm(row), rope(other)}), 2U);
    EXPECT_EQ(n({norm(row), ops::Add{other, row}, rope(row)}), 3U);
    EXPECT_EQ(n({norm(row)}), 1U);
    EXPECT_EQ(n({rope(row), ops::RoundHadamardFp4{row, kDim}}), 1U);
    EXPECT_EQ(n({rope(row), ops::RoundHadamardFp4{row, kDim / 2}}), 2U);
    const ops::HcCollapse collapse{{}, heads, row, {}, {}, std::nullopt};
    const ops::RmsNorm weighted{row, {memory, kDim}, kDim, 1e-6F, row};
    EXPECT_EQ(n({collapse, weighted}), 1U);
    EXPECT_EQ(n({collapse, norm(row)}), 2U);  // a norm without weights
    EXPECT_EQ(n({collapse, ops::RmsNorm{row, {memory, kDim}, kDim, 1e-6F, other}}), 2U);
    const ops::Attend attend{{2, kDim, 5, 0, {}}, {}, {}, heads, row, heads};
    const ops::Rope back{heads, nullptr, nullptr, kRotated, kDim, true};
    EXPECT_EQ(n({attend, ops::StoreWindow{{}, row}, back}), 1U);
    EXPECT_EQ(n({attend, ops::StoreWindow{{}, other}, back}), 3U);
    EXPECT_EQ(n({attend, ops::StoreWindow{{}, row}, rope(row)}), 3U);
    std::int32_t experts[2] = {};
    const Routing here{experts, memory, 1}, elsewhere{experts + 1, memory, 1};
    const ops::Route route{{}, nullptr, row, here};
    EXPECT_EQ(n({route, ops::Mixture{{}, here, row, {}, row, row, row}}), 1U);
    EXPECT_EQ(n({route, ops::Mixture{{}, elsewhere, row, {}, row, row, row}}), 2U);
    const ops::HcExpand expand{row, {}, {}, heads};
    EXPECT_EQ(n({expand, collapse}), 1U);
    EXPECT_EQ(n({expand, collapse, weighted, expand, collapse, norm(row)}), 3U);
    EXPECT_EQ(n({expand}), 1U);
    EXPECT_EQ(n({expand, weighted, collapse}), 3U);
    EXPECT_EQ(n({ops::HcExpand{row, {}, {}, row}, collapse}), 2U);  // of other streams
}

class Fused : public testing::TestWithParam<GpuUnderTest> {};

// The norm, the rotation and the rounding as one step, and with a download after each, so that they cannot be
// fused.
TEST_P(Fused, NormRotateHasTheBitsOfItsParts) {
    for (const std::int64_t n_heads : {1, 5}) {
        const auto run = [&](bool together) {
            const std::unique_ptr<Backend> backend = make_gpu_backend(GetParam().make());
            Device device(*backend);
            Random random(7);
            const std::vector<float> frequency = random.gaussian(kRotated / 2);
            const std::vector<std::int32_t> positions{0, 77, 65537};
            const Rows x = device.rows(random.gaussian(kRows * n_heads * kDim, 3), n_heads * kDim);
            const Vector w = n_heads == 1 ? device.vector(random.gaussian(kDim)) : Vector{};
            backend->rms_norm(x, w, kDim, 1e-6F, x);
            if (!together) device.download(x);
            backend->rope({frequency.data(), kRotated}, positions, kDim, false, x);
            if (!together) device.download(x);
            if (n_heads == 1) backend->round_fp8(x, kRotated, true);
            return device.download(x);
        };
        expect_same_bits(run(true), run(false), std::to_string(n_heads) + " heads");
    }
}

TEST_P(Fused, RotateRoundHasTheBitsOfItsParts) {
    const auto run = [&](bool together) {
        const std::unique_ptr<Backend> backend = make_gpu_backend(GetParam().make());
        Device device(*backend);
        Random random(8);
        const std::vector<float> frequency = random.gaussian(16);
        const std::vector<std::int32_t> positions{0, 77, 65537};
        const Rows x = device.rows(random.gaussian(kRows * 5 * 128, 3), 5 * 128);
        backend->rope({frequency.data(), 32}, positions, 128, false, x);
        if (!together) device.download(x);
        backend->round_hadamard_fp4(x, 128);
        return device.download(x);
    };
    expect_same_bits(run(true), run(false), "indexer heads");
}

TEST_P(Fused, CollapseWithNormHasTheBitsOfItsParts) {
    const auto run = [&](bool together) {
        const std::unique_ptr<Backend> backend = make_gpu_backend(GetParam().make());
        Device device(*backend);
        Random random(9);
        HyperConnection hc;
        hc.fn = device.matrix(random, quant::Type::f16, 24, 4 * 300);
        hc.base = device.vector(random.gaussian(24));
        hc.scale = device.vector(random.gaussian(3));
        hc.n_streams = 4;
        hc.sinkhorn_iterations = 5;
        hc.eps = 1e-6F;
        const Rows streams = device.rows(random.gaussian(kRows * 4 * 300), 4 * 300);
        const Vector w = device.vector(random.gaussian(300));
        const Rows x = device.result(kRows, 300);
        backend->hc_collapse(hc, streams, x, device.result(kRows, 4), device.result(kRows, 16));
        if (!together) device.download(x);
        backend->rms_norm(x, w, 300, 1e-6F, x);
        return device.download(x);
    };
    expect_same_bits(run(true), run(false), "x");
}

// Hash layers and such with a bias; the router alone and with its mixture.
TEST_P(Fused, RoutedMixtureHasTheBitsOfItsParts) {
    constexpr std::int64_t kExperts = 70, kUsed = 6, kWidth = 256;
    for (const bool hashed : {false, true}) {
        const auto run = [&](bool together) {
            const std::unique_ptr<Backend> backend = make_gpu_backend(GetParam().make());
            Device device(*backend);
            Random random(10);
            const Device::ExpertTypes types{quant::Type::iq2_xxs, quant::Type::iq2_xxs, quant::Type::q2_k};
            const Device::ExpertTypes q8{quant::Type::q8_0, quant::Type::q8_0, quant::Type::q8_0};
            const Experts routed = device.experts(random, types, kExperts, kWidth, kWidth, 10);
            const Experts shared = device.experts(random, q8, 1, kWidth, kWidth, 10);
            Router router;
            router.n_used = kUsed;
            router.bias = device.vector(random.gaussian(kExperts, 0.3F));
            std::vector<std::int32_t> hash;
            for (std::int32_t i = 0; i < 4 * kUsed; ++i) hash.push_back(11 * i % kExperts);
            if (hashed) router.hash = device.upload(hash);
            const std::vector<TokenId> tokens{3, 0, 2};
            const Rows logits = device.rows(random.gaussian(kRows * kExperts), kExperts);
            const Rows x = device.rows(random.gaussian(kRows * kWidth), kWidth);
            const Routing routing{device.allocate<std::int32_t>(kRows * kUsed),
                                  device.allocate<float>(kRows * kUsed), kUsed};
            const Rows act = device.result(kRows, kWidth), y = device.result(kRows, kWidth);
            backend->gated_matmul(shared, x, device.result(kRows, kWidth), act);
            backend->route(router, tokens, logits, routing);
            if (!together) device.download(y);
            backend->mixture(routed, routing, x, shared, act, device.result(kRows, kWidth), y);
            return device.download(y);
        };
        expect_same_bits(run(true), run(false), hashed ? "hash" : "bias");
    }
}

// Expansion, collapse and norm of kRows rows; what each row leaves. n_prompt: the last rows are a prompt's.
// `together`: without downloads in between.
std::vector<std::vector<float>> next_site(Backend& backend, std::int64_t width, std::int64_t n_prompt,
                                          bool together) {
    Device device(backend);
    Random random(10);
    HyperConnection hc;
    hc.fn = device.matrix(random, quant::Type::f16, 24, 4 * width, 1, Backend::MatrixUse::mixing);
    hc.base = device.vector(random.gaussian(24));
    hc.scale = device.vector(random.gaussian(3));
    hc.n_streams = 4;
    hc.sinkhorn_iterations = 20;
    hc.eps = 1e-6F;
    const Vector w = device.vector(random.gaussian(width));
    const Rows streams = device.rows(random.gaussian(kRows * 4 * width), 4 * width);
    const Rows y = device.rows(random.gaussian(kRows * width), width);
    const Rows post = device.rows(random.gaussian(kRows * 4), 4);
    const Rows comb = device.rows(random.gaussian(kRows * 16), 16);
    const Rows x = device.result(kRows, width);
    std::vector<Segment> segments;
    for (std::int64_t row = 0; row < kRows - n_prompt; ++row) segments.push_back({row, 1, 0, false});
    if (n_prompt > 0) segments.push_back({kRows - n_prompt, n_prompt, 0, true});
    backend.begin_rows(segments);
    backend.hc_expand(y, post, comb, streams);
    if (!together) device.download(streams);
    backend.hc_collapse(hc, streams, x, post, comb);
    if (!together) device.download(x);
    backend.rms_norm(x, w, width, 1e-6F, x);
    std::vector<std::vector<float>> of_row(kRows);
    for (const Rows rows : {x, streams, post, comb}) {
        for (std::int64_t row = 0; row < kRows; ++row) {
            const std::vector<float> values = device.download(rows.slice(row, 1));
            std::vector<float>& all = of_row[static_cast<std::size_t>(row)];
            all.insert(all.end(), values.begin(), values.end());
        }
    }
    return of_row;
}

// Of Flash's shape and of another one.
class FusedSite : public Fused {
  protected:
    void SetUp() override { backend_ = make_gpu_backend(GetParam().make()); }

    std::unique_ptr<Backend> backend_;
};

TEST_P(FusedSite, HasTheBitsOfItsParts) {
    for (const std::int64_t width : {300, 4096}) {
        for (const std::int64_t n_prompt : {std::int64_t{0}, kRows}) {
            const auto together = next_site(*backend_, width, n_prompt, true);
            const auto apart = next_site(*backend_, width, n_prompt, false);
            for (std::size_t row = 0; row < together.size(); ++row)
                expect_same_bits(together[row], apart[row], std::to_string(width) + " columns");
        }
    }
}

TEST_P(FusedSite, TreatsRowsAsWhatTheyAre) {
    for (const std::int64_t width : {300, 4096}) {
        const auto mixed = next_site(*backend_, width, kRows - 1, true);
        const auto generated = next_site(*backend_, width, 0, true);
        const auto prompt = next_site(*backend_, width, kRows, true);
        for (std::size_t row = 0; row < mixed.size(); ++row)
            expect_same_bits(mixed[row], row == 0 ? generated[row] : prompt[row],
                             "row " + std::to_string(row));
    }
}

INSTANTIATE_TEST_SUITE_P(Gpu, Fused, testing::ValuesIn(gpu_devices()),
                         [](const auto& gpu) { return gpu.param.name; });

INSTANTIATE_TEST_SUITE_P(Gpu, FusedSite, testing::ValuesIn(gpu_devices()),
                         [](const auto& gpu) { return gpu.param.name; });

}  // namespace
}  // namespace ds4::test
