#pragma once

#include <memory>

#include "backend/backend.h"
#include "ds4/backend_kind.h"

namespace ds4 {

// threads: of the CPU backend, 0 is one per core. Throws DeviceError if there is no such device.
std::unique_ptr<Backend> make_backend(BackendKind kind, int threads);

}  // namespace ds4
