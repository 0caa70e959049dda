// Any bytes either are a safetensors file, all of whose tensors can then be read, or give a SafetensorsError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "ds4/error.h"
#include "gguf/safetensors.h"

namespace {

using ds4::safetensors::File;

void read_all(const File& file) {
    for (const ds4::safetensors::Tensor& tensor : file.tensors()) {
        std::uint64_t elements = 1;
        for (const std::uint64_t n : tensor.shape) elements *= n;
        if (elements != tensor.elements()) std::abort();
        std::uint64_t sum = 0;
        for (const std::byte b : tensor.data) sum += std::to_integer<std::uint64_t>(b);
        if (sum > 255 * tensor.data.size()) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        read_all(File::parse(std::as_bytes(std::span(data, size)), "fuzz.safetensors"));
    } catch (const ds4::SafetensorsError& error) {
        if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
    }
    return 0;
}
