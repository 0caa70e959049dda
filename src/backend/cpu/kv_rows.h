#pragma once

#include <cstddef>

#include "quant/kv_rows.h"

namespace ds4::cpu {

// quant::decode_kv_row, bit for bit, vectorised for the instruction set found at run time.
void decode_kv_row(const quant::KvRowFormat& format, const std::byte* row, float* values);

}  // namespace ds4::cpu
