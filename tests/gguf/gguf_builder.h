#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/gguf.h"

namespace ds4::test {

// Puts the bytes of a GGUF file together field by field. Nothing is checked: the tests are about files that
// lie.
class GgufBuilder {
  public:
    template <class T>
    GgufBuilder& put(T value) {
        char bytes[sizeof(T)];
        std::memcpy(bytes, &value, sizeof value);
        bytes_.append(bytes, sizeof value);
        return *this;
    }
    GgufBuilder& u8(std::uint8_t value) { return put(value); }
    GgufBuilder& u32(std::uint32_t value) { return put(value); }
    GgufBuilder& u64(std::uint64_t value) { return put(value); }
    GgufBuilder& raw(std::string_view text) {
        bytes_.append(text);
        return *this;
    }
    GgufBuilder& string(std::string_view text) { return u64(text.size()).raw(text); }

    GgufBuilder& header(std::uint64_t n_tensors, std::uint64_t n_keys) {
        return raw("GGUF").u32(3).u64(n_tensors).u64(n_keys);
    }
    GgufBuilder& key(std::string_view name, gguf::ValueType type) {
        return string(name).u32(static_cast<std::uint32_t>(type));
    }
    GgufBuilder& tensor(std::string_view name, std::span<const std::uint64_t> ne, std::uint32_t type,
                        std::uint64_t offset) {
        string(name).u32(static_cast<std::uint32_t>(ne.size()));
        for (const std::uint64_t n : ne) u64(n);
        return u32(type).u64(offset);
    }
    GgufBuilder& tensor(std::string_view name, std::initializer_list<std::uint64_t> ne, std::uint32_t type,
                        std::uint64_t offset) {
        return tensor(name, std::span(ne.begin(), ne.size()), type, offset);
    }
    // Zeros up to a multiple of the alignment, then n zeros of data.
    GgufBuilder& data(std::size_t n, std::size_t alignment = 32) {
        bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment + n, '\0');
        return *this;
    }

    const std::string& bytes() const { return bytes_; }

  private:
    std::string bytes_;
};

// A copy in a heap block of exactly that size: under the address sanitizer a read behind the end is caught.
inline std::vector<std::byte> exact_bytes(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

}  // namespace ds4::test
