#include "backend/gpu/device.h"
#include "ds4/error.h"

// In place of cuda/device.cpp in builds without CUDA.
namespace ds4::gpu {

std::unique_ptr<Device> make_cuda_device(int /*index*/) {
    throw DeviceError(
        "this program was built without CUDA; build it with -DDS4_CUDA=ON, or use --backend cpu");
}

bool has_cuda_device() {
    return false;
}

}  // namespace ds4::gpu
