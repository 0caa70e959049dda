#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

// Hashes of OpenSSL and xxHash in the forms that files need.
namespace ds4 {

// SHA-1 of bytes that come in pieces. A name, not a signature: files of the KV cache are called by it.
class Sha1 {
  public:
    static constexpr std::size_t kHexDigits = 40;

    Sha1();
    Sha1(const Sha1& other);  // goes on from the same bytes
    Sha1& operator=(const Sha1&) = delete;
    ~Sha1();

    void update(std::span<const std::byte> bytes);
    void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
    // Of everything so far; more may follow.
    std::string hex() const;

  private:
    struct Context;
    std::unique_ptr<Context> context_;
};

std::string sha1_hex(std::span<const std::byte> bytes);
inline std::string sha1_hex(std::string_view text) {
    return sha1_hex(std::as_bytes(std::span(text)));
}

// XXH3, 64 bits, of bytes that come in pieces: a checksum against accidents.
class Xxh3 {
  public:
    Xxh3();
    Xxh3(const Xxh3&) = delete;
    Xxh3& operator=(const Xxh3&) = delete;
    ~Xxh3();

    void update(std::span<const std::byte> bytes);
    std::uint64_t value() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

std::uint64_t xxh3(std::span<const std::byte> bytes);

}  // namespace ds4
