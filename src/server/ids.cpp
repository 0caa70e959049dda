#include "server/ids.h"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>

#include "ds4/error.h"

namespace ds4::server {
namespace {

void fill_random(void* bytes, std::size_t size) {
    auto* at = static_cast<unsigned char*>(bytes);
    while (size > 0) {
        const ssize_t n = ::getrandom(at, size, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            throw IoError("no random numbers from the system: " + std::generic_category().message(errno));
        at += n;
        size -= static_cast<std::size_t>(n);
    }
}

}  // namespace

std::string random_id(const std::string& prefix, int n_hex_digits) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string id = prefix;
    std::array<unsigned char, 32> bytes{};
    fill_random(bytes.data(), bytes.size());
    for (std::size_t i = 0; i < static_cast<std::size_t>(n_hex_digits); ++i) {
        const unsigned byte = bytes[i / 2 % bytes.size()];
        id += digits[i % 2 == 0 ? byte >> 4 : byte & 15];
    }
    return id;
}

std::uint64_t random_seed() {
    std::uint64_t seed = 0;
    fill_random(&seed, sizeof seed);
    return seed;
}

std::int64_t unix_time() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace ds4::server
