#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "gguf/safetensors.h"
#include "gguf/safetensors_builder.h"
#include "temporary_directory.h"

namespace ds4::test {

inline std::filesystem::path golden_directory(const std::string& topic) {
    return std::filesystem::path(DS4_TEST_DATA) / "golden" / topic;
}

struct StoredTensor {
    std::string dtype;
    std::vector<std::uint64_t> shape;
    std::vector<std::byte> data;
};

// A checkpoint in memory that a test changes before it writes it: at first golden/alpha.
class CheckpointCopy {
  public:
    CheckpointCopy() : config(nlohmann::json::parse(read_file(golden_directory("alpha") / "config.json"))) {
        const auto alpha = safetensors::File::open(golden_directory("alpha") / "model.safetensors");
        for (const safetensors::Tensor& t : alpha.tensors()) {
            tensors[t.name] = {std::string(dtype_name(t.dtype)), t.shape, {t.data.begin(), t.data.end()}};
        }
    }

    template <class T>
    void set(const std::string& name, const std::string& dtype, std::vector<std::uint64_t> shape,
             const std::vector<T>& values) {
        const auto bytes = std::as_bytes(std::span(values));
        tensors[name] = {dtype, std::move(shape), {bytes.begin(), bytes.end()}};
    }

    // One file, or with n_shards > 1 that many and an index.
    void write(const std::filesystem::path& directory, std::size_t n_shards = 1) const {
        std::filesystem::create_directories(directory);
        write_file(directory / "config.json", config.dump());
        std::vector<SafetensorsBuilder> shards(n_shards);
        nlohmann::json weight_map;
        std::size_t i = 0;
        for (const auto& [name, t] : tensors) {
            const std::size_t shard = i++ % n_shards;
            shards[shard].add(name, t.dtype, t.shape, t.data);
            weight_map[name] = shard_name(shard);
        }
        if (n_shards == 1) {
            write_file(directory / "model.safetensors", shards[0].bytes());
            return;
        }
        for (std::size_t s = 0; s < n_shards; ++s) write_file(directory / shard_name(s), shards[s].bytes());
        write_file(directory / "model.safetensors.index.json",
                   nlohmann::json{{"weight_map", weight_map}}.dump());
    }

    nlohmann::json config;
    std::map<std::string, StoredTensor> tensors;

  private:
    static std::string shard_name(std::size_t i) {
        return std::string("model-").append(std::to_string(i)).append(".safetensors");
    }
};

}  // namespace ds4::test
