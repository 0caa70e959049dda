#pragma once

#include <memory>

#include "backend/backend.h"

namespace ds4 {

// The oracle: every operation written down as model.md has it, one scalar after the other, sums in double,
// weights decoded to f32 and activations left alone. Slow on purpose; tests compare all other backends with
// it.
std::unique_ptr<Backend> make_reference_backend();

}  // namespace ds4
