#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "backend/device.h"
#include "backend/gpu/devices.h"
#include "backend/gpu/matrix_args.h"

// What hc_site gives to the experts beside x. The rest of it is tested as an operation (gpu_ops_test).
namespace ds4::test {
namespace {

class Site : public testing::TestWithParam<GpuUnderTest> {};

template <class T>
std::vector<T> downloaded(gpu::Device& device, const gpu::Buffer& from) {
    std::vector<T> host(from.bytes() / sizeof(T));
    device.download(host.data(), from.get(), from.bytes());
    return host;
}

template <class T>
gpu::Buffer uploaded(gpu::Device& device, const std::vector<T>& host) {
    gpu::Buffer to(device, host.size() * sizeof(T));
    device.upload(to.get(), host.data(), to.bytes());
    return to;
}

template <class T>
T* at(const gpu::Buffer& buffer) {
    return reinterpret_cast<T*>(buffer.get());
}

// The activations are those of x, in the form in which prepare_experts gives them.
TEST_P(Site, QuantisesWhatItCollapses) {
    constexpr std::uint32_t kRows = 3, kStreams = 4, kWidth = 4096, kMixes = 24;
    const std::unique_ptr<gpu::Device> device = GetParam().make();
    Random random(3);
    const auto values = [&](std::int64_t n) { return uploaded(*device, random.gaussian(n)); };
    const gpu::Buffer streams = values(kRows * kStreams * kWidth), fn = values(kMixes * kStreams * kWidth);
    const gpu::Buffer base = values(kMixes), scale = values(3), norm = values(kWidth);
    const gpu::Buffer x = values(kRows * kWidth), post = values(kRows * kStreams);
    const gpu::Buffer comb = values(kRows * kStreams * kStreams);
    constexpr std::uint32_t kBlocks = kRows * kWidth / gpu::kActInputs, kSums = kRows * kWidth / 16;
    const std::vector<float> nothing(kSums, 12345);
    const gpu::Buffer act(*device, kBlocks * sizeof(gpu::ActBlock)), sums = uploaded(*device, nothing);
    const gpu::Buffer expected_act(*device, act.bytes()), expected_sums = uploaded(*device, nothing);
    const gpu::Buffer list(*device, sizeof(gpu::ExpertList));

    gpu::HcSiteArgs a{};
    a.expand = {nullptr, nullptr, nullptr, at<float>(streams), kWidth, kStreams};
    a.mix.streams = at<float>(streams);
    a.mix.base = at<float>(base);
    a.mix.scale = at<float>(scale);
    a.mix.x = at<float>(x);
    a.mix.post = at<float>(post);
    a.mix.comb = at<float>(comb);
    a.mix.norm = at<float>(norm);
    a.mix.width = kWidth;
    a.mix.n_streams = kStreams;
    a.mix.n_mix = kMixes;
    a.mix.sinkhorn_iterations = 20;
    a.mix.eps = a.mix.rms_eps = a.mix.norm_eps = 1e-6F;
    a.fn = at<std::uint8_t>(fn);
    a.act = at<gpu::ActBlock>(act);
    a.act_sums = at<float>(sums);
    a.row_bytes = kStreams * kWidth * sizeof(float);
    a.type = static_cast<std::uint32_t>(quant::Type::f32);
    gpu::PrepareExpertsArgs prepare{};
    prepare.x = at<float>(x);
    prepare.act = at<gpu::ActBlock>(expected_act);
    prepare.sums = at<float>(expected_sums);
    prepare.list = at<gpu::ExpertList>(list);
    prepare.n = kRows;
    prepare.n_in = kWidth;
    const gpu::Launch launches[] = {
        make_launch(gpu::Kernel::hc_site, {kRows}, a),
        make_launch(gpu::Kernel::prepare_experts, {1 + kBlocks / 8}, prepare),
    };
    device->run(launches);
    EXPECT_EQ(downloaded<float>(*device, sums), downloaded<float>(*device, expected_sums));
    EXPECT_EQ(downloaded<std::uint8_t>(*device, act), downloaded<std::uint8_t>(*device, expected_act));
}

INSTANTIATE_TEST_SUITE_P(Gpu, Site, testing::ValuesIn(gpu_devices()),
                         [](const auto& gpu) { return gpu.param.name; });

}  // namespace
}  // namespace ds4::test
