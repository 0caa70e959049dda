#include "backend/gpu/emulated/entries.h"

#include "backend/gpu/kernels/all.h"
#include "backend/gpu/kernels/tile_products.h"

namespace ds4::gpu::emulated {

Entry entry(gpu::Kernel kernel) {
    static constexpr Entry kEntries[] = {
#define DS4_ENTRY(name, args, shared, threads)                                             \
    {#name, threads, sizeof(shared##Shared), [](const Thread& t, const void* a, void* s) { \
         name(t, *static_cast<const args##Args*>(a), *static_cast<shared##Shared*>(s));    \
     }},
        DS4_KERNELS(DS4_ENTRY) DS4_TILE_KERNELS(DS4_ENTRY)
#undef DS4_ENTRY
    };
    return kEntries[static_cast<std::size_t>(kernel)];
}

}  // namespace ds4::gpu::emulated
