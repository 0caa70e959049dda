#pragma once

#include <vector>

#include "backend/backend.h"
#include "backend/op_cases.h"

namespace ds4::test {

// Of every operation.
std::vector<OpCase> all_cases();

// Runs a case on the same inputs on the backend and on the reference, and expects the same outputs within the
// case's tolerances, or within `least` where those are closer.
void compare_with_reference(const OpCase& op, Backend& backend, int seed, double least = 0);

}  // namespace ds4::test
