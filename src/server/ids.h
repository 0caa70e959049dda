#pragma once

#include <cstdint>
#include <string>

namespace ds4::server {

// PREFIX and hex digits from the operating system's random source: nobody can guess one (api.md 7).
std::string random_id(const std::string& prefix, int n_hex_digits);

// For the sampling of a request that brings none.
std::uint64_t random_seed();

// Seconds since 1970.
std::int64_t unix_time();

}  // namespace ds4::server
