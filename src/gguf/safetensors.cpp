#include "gguf/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "ds4/error.h"
#include "gguf/printable.h"

namespace ds4::safetensors {
namespace {

using Json = nlohmann::json;

// As the format's own library has it; the header of the full model is 8 MB.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr int kMaxJsonDepth = 16;

struct DtypeInfo {
    std::string_view name;
    std::size_t size;
};
constexpr std::array<DtypeInfo, 16> kDtypes = {{
    {"BOOL", 1},
    {"U8", 1},
    {"I8", 1},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"F8_E8M0", 1},
    {"U16", 2},
    {"I16", 2},
    {"F16", 2},
    {"BF16", 2},
    {"U32", 4},
    {"I32", 4},
    {"F32", 4},
    {"U64", 8},
    {"I64", 8},
    {"F64", 8},
}};

std::optional<Dtype> find_dtype(std::string_view name) {
    for (std::size_t i = 0; i < kDtypes.size(); ++i) {
        if (kDtypes[i].name == name) return static_cast<Dtype>(i);
    }
    return std::nullopt;
}

// Parses JSON that must not nest deeply or repeat a name within an object. Throws SafetensorsError.
Json parse_json(std::string_view text, const std::string& file) {
    // Of the open objects, by depth. Trees: the file could choose names that collide in a hash table.
    std::array<std::set<std::string>, kMaxJsonDepth + 1> names;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
        if (depth >= kMaxJsonDepth) throw SafetensorsError(file + ": the JSON is nested too deeply");
        const auto level = static_cast<std::size_t>(depth);
        if (event == Json::parse_event_t::object_start) names[level + 1].clear();
        if (event == Json::parse_event_t::key) {
            const auto& name = parsed.get_ref<const std::string&>();
            if (!names[level].insert(name).second) {
                throw SafetensorsError(file + ": the name " + printable(name) + " stands twice");
            }
        }
        return true;
    };
    try {
        return Json::parse(text, watch);
    } catch (const Json::exception& error) {
        throw SafetensorsError(file + ": not valid JSON: " + printable(error.what()));
    }
}

class HeaderReader {
  public:
    HeaderReader(std::string file, std::span<const std::byte> data) : file_(std::move(file)), data_(data) {}

    Tensor tensor(const std::string& name, const Json& entry) const {
        Tensor t;
        t.name = name;
        if (!entry.is_object()) fail(name, "is not described by an object");
        const Json dtype = entry.value("dtype", Json());
        if (!dtype.is_string()) fail(name, "has no dtype");
        const auto known = find_dtype(dtype.get_ref<const std::string&>());
        if (!known) fail(name, "has the unknown dtype " + printable(dtype.get_ref<const std::string&>()));
        t.dtype = *known;
        t.shape = integers(name, entry, "shape");
        const std::vector<std::uint64_t> range = integers(name, entry, "data_offsets");
        if (range.size() != 2 || range[0] > range[1] || range[1] > data_.size()) {
            fail(name, "has data_offsets outside the file; it is truncated or broken");
        }
        std::uint64_t size = dtype_size(t.dtype);
        for (const std::uint64_t n : t.shape) {
            if (__builtin_mul_overflow(size, n, &size)) fail(name, "has a shape whose size overflows");
        }
        if (size != range[1] - range[0]) {
            fail(name, "takes " + std::to_string(range[1] - range[0]) + " bytes, its shape and dtype " +
                           std::to_string(size));
        }
        t.data = data_.subspan(range[0], size);
        return t;
    }

  private:
    [[noreturn]] void fail(const std::string& name, const std::string& what) const {
        throw SafetensorsError(file_ + ": tensor " + printable(name) + " " + what);
    }

    std::vector<std::uint64_t> integers(const std::string& name, const Json& entry, const char* field) const {
        const Json list = entry.value(field, Json());
        std::vector<std::uint64_t> out;
        if (!list.is_array()) fail(name, std::string("has no ") + field);
        for (const Json& item : list) {
            if (!item.is_number_unsigned())
                fail(name, std::string("has a ") + field + " that is not whole numbers");
            out.push_back(item.get<std::uint64_t>());
        }
        return out;
    }

    std::string file_;
    std::span<const std::byte> data_;
};

void check_overlaps(const std::string& file, const std::vector<Tensor>& sorted) {
    for (std::size_t i = 1; i < sorted.size(); ++i) {
        const Tensor& a = sorted[i - 1];
        if (sorted[i].data.data() < a.data.data() + a.data.size()) {
            throw SafetensorsError(file + ": tensors " + printable(a.name) + " and " +
                                   printable(sorted[i].name) + " overlap");
        }
    }
}

// tensor -> shard, from the index; shards must be plain file names.
std::map<std::string, std::string> read_index(const std::filesystem::path& path) {
    const MappedFile map = MappedFile::open(path);
    const std::string_view text(reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size());
    const Json index = parse_json(text, path.string());
    const Json weight_map = index.is_object() ? index.value("weight_map", Json()) : Json();
    if (!weight_map.is_object()) throw SafetensorsError(path.string() + ": no object weight_map");
    std::map<std::string, std::string> shards;
    for (const auto& [name, shard] : weight_map.items()) {
        const std::string file = shard.is_string() ? shard.get<std::string>() : "";
        if (file.empty() || file == "." || file == ".." ||
            file.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
            throw SafetensorsError(path.string() + ": tensor " + printable(name) + " names the file '" +
                                   printable(file) + "', which is not a plain file name");
        }
        shards.emplace(name, file);
    }
    return shards;
}

}  // namespace

std::string_view dtype_name(Dtype dtype) {
    return kDtypes[static_cast<std::size_t>(dtype)].name;
}
std::size_t dtype_size(Dtype dtype) {
    return kDtypes[static_cast<std::size_t>(dtype)].size;
}

std::uint64_t Tensor::elements() const {
    return data.size() / dtype_size(dtype);
}

File File::open(const std::filesystem::path& path) {
    MappedFile map = MappedFile::open(path);
    File file = parse(map.bytes(), path);
    file.map_ = std::move(map);
    return file;
}

File File::parse(std::span<const std::byte> bytes, const std::filesystem::path& name) {
    File file;
    file.path_ = name;
    const std::string text_name = name.string();
    std::uint64_t header_bytes = 0;
    if (bytes.size() < sizeof header_bytes) throw SafetensorsError(text_name + ": truncated in the header");
    std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
    bytes = bytes.subspan(sizeof header_bytes);
    if (header_bytes > bytes.size() || header_bytes > kMaxHeaderBytes) {
        throw SafetensorsError(text_name + ": a header of " + std::to_string(header_bytes) +
                               " bytes is longer than the file or the allowed 100 MB");
    }
    const std::string_view header(reinterpret_cast<const char*>(bytes.data()), header_bytes);
    const Json entries = parse_json(header, text_name);
    if (!entries.is_object()) throw SafetensorsError(text_name + ": the header is not a JSON object");
    const HeaderReader reader(text_name, bytes.subspan(header_bytes));
    for (const auto& [tensor_name, entry] : entries.items()) {
        if (tensor_name != "__metadata__") file.tensors_.push_back(reader.tensor(tensor_name, entry));
    }
    std::sort(file.tensors_.begin(), file.tensors_.end(), [](const Tensor& a, const Tensor& b) {
        return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
    });
    check_overlaps(text_name, file.tensors_);
    return file;
}

Checkpoint Checkpoint::open(const std::filesystem::path& directory) {
    Checkpoint checkpoint;
    checkpoint.path_ = directory;
    std::error_code error;
    if (!std::filesystem::is_directory(directory, error)) {
        throw IoError(directory.string() + ": not a directory; give the folder of the checkpoint");
    }
    const auto index = directory / "model.safetensors.index.json";
    if (!std::filesystem::exists(index, error)) {
        checkpoint.add(File::open(directory / "model.safetensors"));
        return checkpoint;
    }
    const std::map<std::string, std::string> shards = read_index(index);
    std::set<std::string> files;
    for (const auto& [name, shard] : shards) files.insert(shard);
    for (const std::string& shard : files) {
        if (!std::filesystem::exists(directory / shard, error)) {
            throw SafetensorsError(index.string() + ": the shard " + printable(shard) + " is missing");
        }
        checkpoint.add(File::open(directory / shard));
    }
    for (const auto& [name, shard] : shards) {
        const auto found = checkpoint.index_.find(name);
        if (found == checkpoint.index_.end() || found->second.file->path().filename() != shard) {
            throw SafetensorsError(index.string() + ": tensor " + printable(name) + " is not in " +
                                   printable(shard));
        }
    }
    return checkpoint;
}

void Checkpoint::add(File file) {
    const File& kept = files_.emplace_back(std::move(file));
    for (const Tensor& tensor : kept.tensors()) {
        const auto [other, is_new] = index_.emplace(tensor.name, Place{&kept, &tensor});
        if (!is_new) {
            throw SafetensorsError(kept.path().string() + ": tensor " + printable(tensor.name) +
                                   " is also in " + other->second.file->path().string());
        }
    }
}

const Tensor* Checkpoint::find(std::string_view name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : found->second.tensor;
}

std::vector<std::string_view> Checkpoint::names() const {
    std::vector<std::string_view> names;
    for (const auto& [name, place] : index_) names.push_back(name);
    return names;
}

void Checkpoint::release(const Tensor& tensor, std::span<const std::byte> part) const {
    index_.at(tensor.name).file->release(part);
}

}  // namespace ds4::safetensors
