#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/gpu/device.h"

namespace ds4 {

// The model's operations on a GPU. Operations are recorded and run when somebody wants to see or change
// memory. One caller at a time.
std::unique_ptr<Backend> make_gpu_backend(std::unique_ptr<gpu::Device> device);

}  // namespace ds4
