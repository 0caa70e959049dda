#include "backend/gpu/cuda/entries.h"
#include "backend/gpu/cuda/matrix.h"
#include "backend/gpu/cuda/ptx.h"
#include "backend/gpu/kernels/all.h"

namespace ds4::gpu::cuda {
namespace {

#define DS4_ENTRY(name, args, shared, threads)                                                      \
    __global__ void __launch_bounds__(threads) name##_entry(const __grid_constant__ args##Args a) { \
        __shared__ shared##Shared s;                                                                \
        wait_for_predecessor();                                                                     \
        release_dependents();                                                                       \
        name(this_thread(), a, s);                                                                  \
    }
DS4_KERNELS(DS4_ENTRY)
#undef DS4_ENTRY

}  // namespace

Entry entry(Kernel kernel) {
    static const Entry kEntries[] = {
#define DS4_ENTRY(name, args, shared, threads) \
    {#name, threads, reinterpret_cast<const void*>(&name##_entry), nullptr},
        DS4_KERNELS(DS4_ENTRY)
#undef DS4_ENTRY
#define DS4_ENTRY(name, args, shared, threads)                             \
    {#name, 0, nullptr, [](const void* a, cudaStream_t stream) {           \
         return launch_##name(*static_cast<const args##Args*>(a), stream); \
     }},
            DS4_TILE_KERNELS(DS4_ENTRY)
#undef DS4_ENTRY
    };
    return kEntries[static_cast<uint32_t>(kernel)];
}

}  // namespace ds4::gpu::cuda
