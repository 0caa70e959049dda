#include "backend/make_backend.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/gpu/gpu_backend.h"
#include "backend/reference/reference.h"

namespace ds4 {

std::unique_ptr<Backend> make_backend(BackendKind kind, int threads) {
    switch (kind) {
        case BackendKind::automatic:
            if (!gpu::has_cuda_device()) break;
            [[fallthrough]];
        case BackendKind::cuda:
            return make_gpu_backend(gpu::make_cuda_device());
        case BackendKind::emulated:
            return make_gpu_backend(gpu::make_emulated_device());
        case BackendKind::reference:
            return make_reference_backend();
        case BackendKind::cpu:
            break;
    }
    return make_cpu_backend(threads);
}

}  // namespace ds4
