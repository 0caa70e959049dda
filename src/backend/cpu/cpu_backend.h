#pragma once

#include <memory>

#include "backend/backend.h"

namespace ds4 {

// The CPU backend: SIMD kernels chosen at run time, a team of threads, weights used in place from the mapped
// file. n_threads 0 means one per usable core.
std::unique_ptr<Backend> make_cpu_backend(int n_threads);

}  // namespace ds4
