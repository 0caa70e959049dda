#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/gpu/device.h"

namespace ds4 {

// The model's operations on a GPU. They are recorded and started together: by flush(), or when somebody wants
// to see or change memory. One step at a time; other threads may allocate, upload and download meanwhile.
std::unique_ptr<Backend> make_gpu_backend(std::unique_ptr<gpu::Device> device);

}  // namespace ds4
