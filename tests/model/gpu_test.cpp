// The whole model on the GPU backend: the emulated device, and a real one where there is one.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/gpu/devices.h"
#include "model/random_model.h"
#include "model/runner.h"

namespace ds4 {
namespace {

class GpuModel : public testing::TestWithParam<test::GpuUnderTest> {
  protected:
    // The emulated device takes its time.
    std::int64_t n_tokens() const { return GetParam().is_emulated ? 40 : 300; }
    void chunks_and_company(bool is_prompt, bool company_is_prompt);
};

INSTANTIATE_TEST_SUITE_P(Devices, GpuModel, testing::ValuesIn(test::gpu_devices()),
                         [](const auto& device) { return device.param.name; });

// Without the simulated rounding, which turns a last bit into a step of the grid. Sums in another order over
// four layers leave 1e-5; a wrong term would leave 1e-2 and more of logits around 1.
TEST_P(GpuModel, AgreesWithTheCpu) {
    const auto logits_on = [&](Backend& backend, const test::RandomModel& model) {
        const ForwardOptions options{512, false, quant::KvFormat::f32};
        Forward forward(backend, model.config, model.weights, options);
        const KvLayout layout(model.config, model.config.ratios, options.kv_format);
        KvState state(layout, backend);
        const std::vector<TokenId> ids = model.tokens(n_tokens(), 11);
        std::vector<std::int32_t> positions;
        for (std::size_t i = 0; i < ids.size(); ++i) positions.push_back(static_cast<std::int32_t>(i));
        const Segment segment{0, n_tokens(), 0};
        KvState* states[] = {&state};
        forward.run({ids, positions, {&segment, 1}}, states);
        std::vector<float> logits(ids.size() * static_cast<std::size_t>(model.config.vocab));
        forward.logits(0, n_tokens(), logits.data());
        return logits;
    };
    const auto cpu = make_cpu_backend(1);
    const auto gpu = make_gpu_backend(GetParam().make());
    const test::RandomModel on_host(7);
    const test::RandomModel on_device(7, quant::Type::f32, gpu.get());
    const std::vector<float> expected = logits_on(*cpu, on_host);
    const std::vector<float> actual = logits_on(*gpu, on_device);
    float most = 0;
    for (std::size_t i = 0; i < expected.size(); ++i)
        most = std::max(most, std::abs(actual[i] - expected[i]));
    EXPECT_LT(most, 2e-4F);
}

// One token at a time, in chunks, beside others of either kind: the same bits, be they a prompt's or an
// answer's.
void GpuModel::chunks_and_company(bool is_prompt, bool company_is_prompt) {
    const auto gpu = make_gpu_backend(GetParam().make());
    const test::RandomModel model(7, quant::Type::q8_0, gpu.get());
    test::Runner runner(*gpu, model);
    const std::vector<TokenId> ids = model.tokens(n_tokens(), 11);
    const auto whole = runner.new_state();
    const std::vector<float> expected = runner.prefill(*whole, ids, 512, is_prompt);

    const auto other = runner.new_state();
    runner.step({{other.get(), std::span(ids).first(5)}});
    const auto state = runner.new_state();
    std::vector<float> actual;
    for (std::size_t done = 0; done < ids.size();) {
        const std::size_t n = std::min<std::size_t>(ids.size() - done, done % 3 == 0 ? 1 : 13);
        const std::vector<float> logits =
            runner.step({{state.get(), std::span(ids).subspan(done, n), is_prompt},
                         {other.get(), std::span(ids).first(1), company_is_prompt}});
        actual.insert(actual.end(), logits.begin(),
                      logits.begin() +
                          static_cast<std::ptrdiff_t>(n) * static_cast<std::ptrdiff_t>(model.config.vocab));
        done += n;
    }
    EXPECT_EQ(actual, expected);
    EXPECT_EQ(state->checkpoint().state, whole->checkpoint().state);
}

TEST_P(GpuModel, ChunksAndCompanyChangeNoBitOfAPrompt) {
    chunks_and_company(true, false);
}
TEST_P(GpuModel, ChunksAndCompanyChangeNoBitOfAnAnswer) {
    chunks_and_company(false, true);
}
// Steps of answers alone have launches of their own.
TEST_P(GpuModel, ChunksAndAnswersChangeNoBitOfAnAnswer) {
    chunks_and_company(false, false);
}

// The two kinds differ by what halves and int8 leave of x: logits around 1.
TEST_P(GpuModel, PromptsAndAnswersAgree) {
    const auto gpu = make_gpu_backend(GetParam().make());
    const test::RandomModel model(7, quant::Type::q8_0, gpu.get());
    test::Runner runner(*gpu, model);
    const std::vector<TokenId> ids = model.tokens(24, 11);
    const auto first = runner.new_state(), second = runner.new_state();
    const std::vector<float> prompt = runner.prefill(*first, ids, 512, true);
    const std::vector<float> answer = runner.prefill(*second, ids, 512, false);
    double squares = 0, norm = 0;
    for (std::size_t i = 0; i < prompt.size(); ++i) {
        squares += std::pow(prompt[i] - answer[i], 2);
        norm += std::pow(answer[i], 2);
    }
    EXPECT_NE(prompt, answer);
    EXPECT_LT(std::sqrt(squares / norm), 0.1);
}

}  // namespace
}  // namespace ds4
