// A program of its own: it spoils the process's context of the GPU.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "backend/gpu/args.h"
#include "backend/gpu/device.h"
#include "ds4/error.h"

namespace ds4::gpu {
namespace {

constexpr std::uint32_t kWidth = 256;

Launch add(float* x, float* y) {
    return make_launch(Kernel::add, {1, 1}, AddArgs{x, y, kWidth, kWidth});
}

void expect_works(Device& device) {
    Buffer x(device, kWidth * sizeof(float)), y(device, kWidth * sizeof(float));
    std::vector<float> ones(kWidth, 1.0F), sum(kWidth);
    device.upload(x.get(), ones.data(), x.bytes());
    device.upload(y.get(), ones.data(), y.bytes());
    const Launch launch = add(reinterpret_cast<float*>(x.get()), reinterpret_cast<float*>(y.get()));
    device.run({&launch, 1});
    device.download(sum.data(), y.get(), y.bytes());
    EXPECT_EQ(sum, std::vector<float>(kWidth, 2.0F));
}

void expect_all_memory_is_free(const Device& device) {
    const DeviceMemory memory = *device.memory();
    EXPECT_GT(static_cast<double>(memory.free), 0.9 * static_cast<double>(memory.total));
}

TEST(CudaRestart, WhatADeviceHasHeldIsFreeForTheNext) {
    if (!has_cuda_device()) GTEST_SKIP() << "needs a GPU";
    auto device = make_cuda_device();
    expect_works(*device);
    { const Buffer half(*device, device->memory()->free / 2); }
    device.reset();
    device = make_cuda_device();
    expect_all_memory_is_free(*device);
}

// A kernel that writes where there is nothing, as one with a mistake does. What comes after it is the
// driver's choice: some give this process the GPU again, 580 does not, however long one waits. Either is said
// at once.
TEST(CudaRestart, ADeviceThatHasFailedIsReplacedOrSaidToBeLost) {
    if (!has_cuda_device()) GTEST_SKIP() << "needs a GPU";
    auto device = make_cuda_device();
    expect_works(*device);
    // Memory of the device that goes after it has failed.
    auto kept = std::make_unique<Buffer>(*device, std::size_t{1} << 30);
    const Launch launch = add(reinterpret_cast<float*>(0x1000), reinterpret_cast<float*>(0x2000));
    EXPECT_THROW(
        {
            device->run({&launch, 1});
            device->wait();
        },
        DeviceError);
    std::array<float, 4> values{};
    EXPECT_THROW(device->download(values.data(), kept->get(), sizeof(values)), DeviceError);
    kept.reset();
    device.reset();

    try {
        device = make_cuda_device();
    } catch (const DeviceLostError& error) {
        EXPECT_NE(std::string(error.what()).find("restart the program"), std::string::npos) << error.what();
        EXPECT_TRUE(has_cuda_device());  // else an engine that may choose would go on without it
        EXPECT_THROW(make_cuda_device(), DeviceLostError);
        return;
    }
    expect_works(*device);
    expect_all_memory_is_free(*device);
}

}  // namespace
}  // namespace ds4::gpu
