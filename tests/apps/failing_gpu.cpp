// Linked into a program: its GPU, an emulated one, takes the weights and fails in the first step.
#include "backend/gpu/gpu_backend.h"
#include "backend/make_backend.h"
#include "server/faulty_device.h"

namespace ds4 {

// In place of the library's.
std::unique_ptr<Backend> make_backend(BackendKind /*kind*/, int /*threads*/) {
    static test::Faults faults;
    faults.fails_at_download = true;
    return make_gpu_backend(std::make_unique<test::FaultyDevice>(gpu::make_emulated_device(), faults));
}

}  // namespace ds4
