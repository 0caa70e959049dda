#pragma once

#include <cstdint>

namespace ds4 {

using TokenId = std::int32_t;

}  // namespace ds4
