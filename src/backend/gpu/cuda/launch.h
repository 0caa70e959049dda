#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ds4::gpu::cuda {

// What sizes launches.
struct DeviceShape {
    std::uint32_t multiprocessors = 0;
    std::uint32_t shared_per_multiprocessor = 0;  // bytes
    std::uint32_t shared_per_block = 0;           // bytes, with opt-in
    std::uint32_t shared_reserved = 0;            // bytes of each block that the system takes
    bool has_wgmma = false;                       // sm_90: warpgroup products
    bool has_dependent_launch = false;            // sm_90 and later
};

// Of the current device; read once.
inline const DeviceShape& device_shape() {
    static const DeviceShape shape = [] {
        DeviceShape s;
        int device = 0;
        cudaGetDevice(&device);
        const auto read = [&](cudaDeviceAttr attribute) {
            int value = 0;
            cudaDeviceGetAttribute(&value, attribute, device);
            return static_cast<std::uint32_t>(value);
        };
        s.multiprocessors = read(cudaDevAttrMultiProcessorCount);
        s.shared_per_multiprocessor = read(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
        s.shared_per_block = read(cudaDevAttrMaxSharedMemoryPerBlockOptin);
        s.shared_reserved = read(cudaDevAttrReservedSharedMemoryPerBlock);
        s.has_wgmma = read(cudaDevAttrComputeCapabilityMajor) == 9;
        s.has_dependent_launch = read(cudaDevAttrComputeCapabilityMajor) >= 9;
        return s;
    }();
    return shape;
}

// A launch that may begin before the one ahead of it in the stream has ended (the kernel waits by itself).
template <class... Params, class... Values>
cudaError_t launch(void (*kernel)(Params...), dim3 blocks, std::uint32_t threads, std::uint32_t shared,
                   cudaStream_t stream, const Values&... values) {
    if (const cudaError_t error =
            cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
        error != cudaSuccess) {
        return error;
    }
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = device_shape().has_dependent_launch ? 1 : 0;
    cudaLaunchConfig_t config{};
    config.gridDim = blocks;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, values...);
}

}  // namespace ds4::gpu::cuda
