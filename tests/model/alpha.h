#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "convert/convert.h"
#include "gguf/safetensors.h"
#include "temporary_directory.h"

namespace ds4::test {

// tests/data/golden/alpha: a random checkpoint, 300 token ids and what two public implementations make of
// them.
inline std::filesystem::path alpha_directory() {
    return std::filesystem::path(DS4_TEST_DATA) / "golden" / "alpha";
}

// The checkpoint converted to F32, trunk and MTP block.
class AlphaFiles {
  public:
    AlphaFiles() : trunk(directory_ / "alpha.gguf"), mtp(directory_ / "alpha-mtp.gguf") {
        convert::ConvertOptions options;
        options.checkpoint = alpha_directory();
        options.out = trunk;
        options.mtp_out = mtp;
        options.recipe = convert::Recipe::f32;
        convert::convert(options);
    }

  private:
    TemporaryDirectory directory_;

  public:
    std::filesystem::path trunk, mtp;
};

// expected.safetensors.
class AlphaExpected {
  public:
    AlphaExpected() : file_(safetensors::File::open(alpha_directory() / "expected.safetensors")) {}

    std::vector<float> floats(const std::string& name) const { return values<float>(name); }
    std::vector<std::int32_t> integers(const std::string& name) const { return values<std::int32_t>(name); }

  private:
    template <class T>
    std::vector<T> values(const std::string& name) const {
        for (const safetensors::Tensor& t : file_.tensors()) {
            if (t.name != name) continue;
            std::vector<T> out(t.elements());
            std::memcpy(out.data(), t.data.data(), t.data.size());
            return out;
        }
        throw std::runtime_error("no " + name + " in expected.safetensors");
    }

    safetensors::File file_;
};

}  // namespace ds4::test
