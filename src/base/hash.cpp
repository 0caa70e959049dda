#include "base/hash.h"

#include <openssl/evp.h>
#include <xxhash.h>

#include <array>
#include <new>

namespace ds4 {

struct Sha1::Context {
    Context() : md(EVP_MD_CTX_new()) {
        if (md == nullptr) throw std::bad_alloc();
    }
    ~Context() { EVP_MD_CTX_free(md); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    EVP_MD_CTX* md;
};

namespace {

// OpenSSL's digests of memory fail for lack of memory only.
void check(int ok) {
    if (ok != 1) throw std::bad_alloc();
}

}  // namespace

Sha1::Sha1() : context_(std::make_unique<Context>()) {
    check(EVP_DigestInit_ex(context_->md, EVP_sha1(), nullptr));
}
Sha1::Sha1(const Sha1& other) : context_(std::make_unique<Context>()) {
    check(EVP_MD_CTX_copy_ex(context_->md, other.context_->md));
}
Sha1::~Sha1() = default;

void Sha1::update(std::span<const std::byte> bytes) {
    check(EVP_DigestUpdate(context_->md, bytes.data(), bytes.size()));
}

std::string Sha1::hex() const {
    const Sha1 copy(*this);
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned n = 0;
    check(EVP_DigestFinal_ex(copy.context_->md, digest.data(), &n));
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (unsigned i = 0; i < n; ++i) {
        text += kDigits[digest[i] >> 4];
        text += kDigits[digest[i] & 15];
    }
    return text;
}

std::string sha1_hex(std::span<const std::byte> bytes) {
    Sha1 sha1;
    sha1.update(bytes);
    return sha1.hex();
}

struct Xxh3::State {
    State() : xxh(XXH3_createState()) {
        if (xxh == nullptr) throw std::bad_alloc();
        XXH3_64bits_reset(xxh);
    }
    ~State() { XXH3_freeState(xxh); }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    XXH3_state_t* xxh;
};

Xxh3::Xxh3() : state_(std::make_unique<State>()) {}
Xxh3::~Xxh3() = default;

void Xxh3::update(std::span<const std::byte> bytes) {
    XXH3_64bits_update(state_->xxh, bytes.data(), bytes.size());
}
std::uint64_t Xxh3::value() const {
    return XXH3_64bits_digest(state_->xxh);
}

std::uint64_t xxh3(std::span<const std::byte> bytes) {
    return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace ds4
