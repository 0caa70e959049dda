#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace ds4::gguf {

// Reads little-endian fields one after the other from bytes it does not trust: every read first asks whether
// the bytes are there.
class Cursor {
  public:
    explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

    std::uint64_t position() const { return position_; }
    std::uint64_t left() const { return bytes_.size() - position_; }

    template <class T>
    bool read(T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        if (left() < sizeof(T)) return false;
        std::memcpy(&value, bytes_.data() + position_, sizeof(T));
        position_ += sizeof(T);
        return true;
    }

    bool take(std::uint64_t n, std::span<const std::byte>& out) {
        if (left() < n) return false;
        out = bytes_.subspan(position_, n);
        position_ += n;
        return true;
    }

    // u64 length, then that many bytes.
    bool read_string(std::string_view& out) {
        std::uint64_t length = 0;
        std::span<const std::byte> bytes;
        if (!read(length) || !take(length, bytes)) return false;
        out = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
        return true;
    }

  private:
    std::span<const std::byte> bytes_;
    std::uint64_t position_ = 0;
};

}  // namespace ds4::gguf
