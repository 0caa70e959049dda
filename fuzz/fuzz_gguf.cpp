// Any bytes either are a GGUF file, all of whose keys and tensors can then be read, or give a GgufError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "ds4/error.h"
#include "gguf/check.h"
#include "gguf/gguf.h"

namespace {

using ds4::gguf::File;

template <class Access>
void try_access(const Access& access) {
    try {
        access();
    } catch (const ds4::GgufError& error) {
        if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
    }
}

void read_key(const File& file, std::string_view key) {
    try_access([&] { (void)file.find_uint(key); });
    try_access([&] { (void)file.find_float(key); });
    try_access([&] { (void)file.find_bool(key); });
    try_access([&] { (void)file.find_string(key); });
    try_access([&] { (void)file.find_int_array(key); });
    try_access([&] { (void)file.find_float_array(key); });
    try_access([&] { (void)file.find_string_array(key); });
}

// A volatile read is not optimised away.
void touch(std::span<const std::byte> data) {
    static_cast<void>(*static_cast<const volatile std::byte*>(&data.front()));
    static_cast<void>(*static_cast<const volatile std::byte*>(&data.back()));
}

void read_all(const File& file) {
    for (const auto& [key, value] : file.metadata()) {
        if (file.find(key) != &value) std::abort();
        read_key(file, key);
    }
    for (const ds4::gguf::Tensor& tensor : file.tensors()) {
        if (file.find_tensor(tensor.name) != &tensor) std::abort();
        if (tensor.data.size() != tensor.rows() * ds4::quant::row_bytes(*tensor.format, tensor.ne[0]))
            std::abort();
        touch(tensor.data);
    }
    ds4::gguf::check_values(file, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try_access([&] { read_all(File::parse(std::as_bytes(std::span(data, size)), "fuzz.gguf")); });
    return 0;
}
