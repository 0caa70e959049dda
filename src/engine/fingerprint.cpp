#include <algorithm>
#include <string>

#include "base/hash.h"
#include "engine/engine_impl.h"

namespace ds4 {
namespace {

// Of each tensor at its start, middle and end: hashing all of a file of 80 GB would take longer than loading.
constexpr std::size_t kSample = 4096;

void add_tensor(Sha1& sha1, const gguf::Tensor& tensor) {
    sha1.update(tensor.name);
    sha1.update(tensor.format->name);
    sha1.update(std::as_bytes(std::span(tensor.ne)));
    const std::size_t n = std::min(kSample, tensor.data.size());
    for (const std::size_t at : {std::size_t{0}, (tensor.data.size() - n) / 2, tensor.data.size() - n}) {
        sha1.update(tensor.data.subspan(at, n));
    }
}

}  // namespace

std::string kv_fingerprint(const gguf::File& file, const ForwardOptions& options) {
    Sha1 sha1;
    for (const auto& [key, value] : file.metadata()) {
        sha1.update(key);
        sha1.update(value.bytes);
    }
    for (const gguf::Tensor& tensor : file.tensors()) add_tensor(sha1, tensor);
    sha1.update("page " + std::to_string(KvLayout::kPageTokens) + " rows " +
                std::to_string(static_cast<int>(options.kv_format)) + " rounding " +
                std::to_string(options.rounding ? 1 : 0));
    return sha1.hex();
}

}  // namespace ds4
