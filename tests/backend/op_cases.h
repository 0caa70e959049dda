#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/device.h"

// The operations on random inputs, as a table that every backend is run through and compared with the
// reference.
namespace ds4::test {

// How far a value may be from the reference's, in units of the root mean square of the reference's output.
struct Tolerance {
    double typical = 0;  // 0: equal
    // Where values are rounded to a coarse grid afterwards, a difference in the last bit may flip the
    // rounding: this share of the values may be off by this much of the largest value.
    double flips = 0;
    double flip_size = 0;
};

// Everything that one output of an operation consists of; integers as floats.
struct Output {
    std::string name;
    std::vector<float> values;
    Tolerance tolerance;
};
using Outputs = std::vector<Output>;

struct OpCase {
    std::string name;
    int n_seeds;
    // Makes inputs from the random numbers, the same on every backend, and runs the operation.
    std::function<Outputs(Device&, Random&)> run;
};

inline void PrintTo(const OpCase& op, std::ostream* out) {
    *out << op.name;
}

std::vector<OpCase> dense_cases();
std::vector<OpCase> history_cases();
std::vector<OpCase> expert_cases();

// Sums in f32 instead of double: each of up to a few thousand terms adds a relative error of at most 6e-8
// with a random sign, and exp and sine are good to a few units of the last place. A wrong term shows at 1e-3
// and more.
inline constexpr Tolerance kF32{.typical = 2e-5};

template <class T>
std::vector<float> as_floats(const std::vector<T>& integers) {
    return {integers.begin(), integers.end()};
}

}  // namespace ds4::test
