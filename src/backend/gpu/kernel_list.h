#pragma once

#include <stdint.h>

#include "backend/gpu/args.h"
#include "backend/gpu/matrix_args.h"

// Every kernel that all devices have: name of its body in kernels/, of its argument struct (without "Args")
// and of its threadgroup memory (without "Shared"), threads of a group.
#define DS4_KERNELS(X)                                      \
    X(rms_norm, RmsNorm, Group, 256)                        \
    X(add, Add, No, 256)                                    \
    X(arg_max, ArgMax, ArgMax, 1024)                        \
    X(rope, Rope, No, 256)                                  \
    X(round_fp8, RoundFp8, No, 256)                         \
    X(norm_rotate, NormRotate, Head, 256)                   \
    X(round_hadamard_fp4, RoundFp4, No, 256)                \
    X(rotate_round, RotateRound, No, 256)                   \
    X(swiglu, Swiglu, No, 256)                              \
    X(prepare_q8_0, Prepare, No, 256)                       \
    X(prepare_q8_k, Prepare, No, 256)                       \
    X(product_f32, Matmul, No, 256)                         \
    X(product_f16, Matmul, No, 256)                         \
    X(product_bf16, Matmul, No, 256)                        \
    X(product_q8_0, Matmul, No, 256)                        \
    X(product_q2_k, Matmul, No, 256)                        \
    X(product_q4_k, Matmul, No, 256)                        \
    X(product_iq2_xxs, Matmul, No, 256)                     \
    X(product_mxfp4, Matmul, No, 256)                       \
    X(expert_product_f32, ExpertProduct, No, 256)           \
    X(expert_product_f16, ExpertProduct, No, 256)           \
    X(expert_product_bf16, ExpertProduct, No, 256)          \
    X(expert_product_q8_0, ExpertProduct, No, 256)          \
    X(expert_product_q2_k, ExpertProduct, No, 256)          \
    X(expert_product_q4_k, ExpertProduct, No, 256)          \
    X(expert_product_iq2_xxs, ExpertProduct, No, 256)       \
    X(expert_product_mxfp4, ExpertProduct, No, 256)         \
    X(sum_slots, SumSlots, No, 256)                         \
    X(prepare_experts, PrepareExperts, PrepareExperts, 512) \
    X(embed, Embed, No, 256)                                \
    X(hc_dots, HcDots, No, 256)                             \
    X(hc_mix, HcMix, HcMix, 512)                            \
    X(hc_site, HcSite, HcMix, 512)                          \
    X(hc_expand, HcExpand, No, 256)                         \
    X(compress_emit, Compress, Head, 256)                   \
    X(compress_move, Compress, No, 256)                     \
    X(prepare_attention, PrepareAttention, Head, 256)       \
    X(index_scores, IndexScores, IndexScores, 256)          \
    X(select_rows, Select, Select, 256)                     \
    X(index_select, IndexSelect, IndexSelect, 256)          \
    X(attention_whole, Attention, Attention, 256)           \
    X(attention_split, Attention, Attention, 256)           \
    X(attention_merge, Attention, No, 256)                  \
    X(store_window, StoreWindow, No, 256)                   \
    X(route, Route, Route, 128)

// Kernels on weights in tiles, likewise. The bodies in kernels/ are plain; a device for which that will not
// do has bodies of its own (cuda/matrix.h), and one without either leaves weights as they are in the file
// (Device::multiplies_tiles).
#define DS4_TILE_KERNELS(X)                   \
    X(repack, Repack, No, 32)                 \
    X(rows, Rows, Rows, 32)                   \
    X(gate_up, GateUp, No, 32)                \
    X(down, Down, No, 32)                     \
    X(halves, Halves, No, 32)                 \
    X(product, Product, No, 32)               \
    X(sort, Sort, No, 32)                     \
    X(grouped_gate_up, GroupedGateUp, No, 32) \
    X(grouped_down, GroupedDown, No, 32)      \
    X(combine, Combine, No, 32)

namespace ds4::gpu {

enum class Kernel : uint32_t {
#define DS4_KERNEL_ID(name, args, shared, threads) name,
    DS4_KERNELS(DS4_KERNEL_ID) DS4_TILE_KERNELS(DS4_KERNEL_ID)
#undef DS4_KERNEL_ID
};

#define DS4_KERNEL_CHECK(name, args, shared, threads) static_assert(sizeof(args##Args) <= kArgsBytes);
DS4_KERNELS(DS4_KERNEL_CHECK)
DS4_TILE_KERNELS(DS4_KERNEL_CHECK)
#undef DS4_KERNEL_CHECK

}  // namespace ds4::gpu
