#pragma once

#include "backend/gpu/dialect.h"

// Numbers in bytes of device memory.
namespace ds4::gpu::DS4_DIALECT {

// At any address.
DS4_FN uint32_t load_u16_bytes(const DS4_GLOBAL uint8_t* p) {
    return p[0] | static_cast<uint32_t>(p[1]) << 8;
}
DS4_FN uint32_t load_u32_bytes(const DS4_GLOBAL uint8_t* p) {
    return load_u16_bytes(p) | load_u16_bytes(p + 2) << 16;
}
DS4_FN void store_u16_bytes(DS4_GLOBAL uint8_t* p, uint32_t v) {
    p[0] = static_cast<uint8_t>(v);
    p[1] = static_cast<uint8_t>(v >> 8);
}
DS4_FN void store_u32_bytes(DS4_GLOBAL uint8_t* p, uint32_t v) {
    store_u16_bytes(p, v);
    store_u16_bytes(p + 2, v >> 16);
}

// At even addresses, as in blocks of 34 or 66 bytes.
DS4_FN uint32_t load_u32_halves(const DS4_GLOBAL uint8_t* p) {
    return load_u16(p) | load_u16(p + 2) << 16;
}

DS4_FN float load_f16(const DS4_GLOBAL uint8_t* p) {
    return f16_to_f32(static_cast<uint16_t>(load_u16(p)));
}
DS4_FN float load_f32(const DS4_GLOBAL uint8_t* p) {
    return as_float(load_u32(p));
}
DS4_FN float load_bf16(const DS4_GLOBAL uint8_t* p) {
    return as_float(load_u16(p) << 16);
}

// An E8M0 scale: 2^(e - 127); 0 is subnormal, 255 NaN. model.md 14.7
DS4_FN float e8m0(uint32_t e) {
    return as_float(e == 255 ? 0x7fc00000u : e == 0 ? 0x00400000u : e << 23);
}

}  // namespace ds4::gpu::DS4_DIALECT
