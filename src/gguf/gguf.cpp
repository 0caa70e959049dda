#include "gguf/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "ds4/error.h"
#include "gguf/cursor.h"
#include "gguf/printable.h"

namespace ds4::gguf {
namespace {

template <class T>
T load(const std::byte* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

bool is_float(ValueType type) {
    return type == ValueType::f32 || type == ValueType::f64;
}

bool is_integer(ValueType type) {
    return type_size(type) > 0 && !is_float(type) && type != ValueType::boolean;
}

// Any integer item widened; nullopt if it is no integer or does not fit an i64.
std::optional<std::int64_t> integer_at(ValueType type, const std::byte* at) {
    using enum ValueType;
    switch (type) {
        case u8:
            return load<std::uint8_t>(at);
        case i8:
            return load<std::int8_t>(at);
        case u16:
            return load<std::uint16_t>(at);
        case i16:
            return load<std::int16_t>(at);
        case u32:
            return load<std::uint32_t>(at);
        case i32:
            return load<std::int32_t>(at);
        case i64:
            return load<std::int64_t>(at);
        case u64: {
            const auto value = load<std::uint64_t>(at);
            if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
                return std::nullopt;
            return static_cast<std::int64_t>(value);
        }
        default:
            return std::nullopt;
    }
}

std::optional<double> float_at(ValueType type, const std::byte* at) {
    if (type == ValueType::f32) return static_cast<double>(load<float>(at));
    if (type == ValueType::f64) return load<double>(at);
    return std::nullopt;
}

[[noreturn]] void wrong_type(const File& file, std::string_view key, const char* wanted, const Value& value) {
    std::string has = type_name(value.type);
    if (value.type == ValueType::array) has += " of " + std::string(type_name(value.item_type));
    throw GgufError(file.path().string() + ": key " + printable(key) + " must be " + wanted + ", it is " +
                    has);
}

const Value* array_of(const File& file, std::string_view key, const char* wanted) {
    const Value* value = file.find(key);
    if (value != nullptr && value->type != ValueType::array) wrong_type(file, key, wanted, *value);
    return value;
}

}  // namespace

const char* type_name(ValueType type) {
    constexpr std::array<const char*, 13> kNames = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                    "bool", "string", "array", "u64", "i64", "f64"};
    return kNames[static_cast<std::size_t>(type)];
}

std::size_t type_size(ValueType type) {
    constexpr std::array<std::size_t, 13> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return kSizes[static_cast<std::size_t>(type)];
}

const Value* File::find(std::string_view key) const {
    const auto found = metadata_index_.find(key);
    return found == metadata_index_.end() ? nullptr : &metadata_[found->second].second;
}

const Tensor* File::find_tensor(std::string_view name) const {
    const auto found = tensor_index_.find(name);
    return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

std::optional<std::uint64_t> File::find_uint(std::string_view key) const {
    const Value* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (value->type == ValueType::u64) return load<std::uint64_t>(value->bytes.data());
    const auto integer = integer_at(value->type, value->bytes.data());
    if (!integer) wrong_type(*this, key, "an unsigned integer", *value);
    if (*integer < 0) {
        throw GgufError(path().string() + ": key " + printable(key) +
                        " is negative: " + std::to_string(*integer));
    }
    return static_cast<std::uint64_t>(*integer);
}

std::optional<double> File::find_float(std::string_view key) const {
    const Value* value = find(key);
    if (value == nullptr) return std::nullopt;
    const auto number = float_at(value->type, value->bytes.data());
    if (!number) wrong_type(*this, key, "a float", *value);
    return number;
}

std::optional<bool> File::find_bool(std::string_view key) const {
    const Value* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (value->type != ValueType::boolean) wrong_type(*this, key, "a bool", *value);
    return load<std::uint8_t>(value->bytes.data()) != 0;
}

std::optional<std::string_view> File::find_string(std::string_view key) const {
    const Value* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (value->type != ValueType::string) wrong_type(*this, key, "a string", *value);
    return std::string_view(reinterpret_cast<const char*>(value->bytes.data()), value->bytes.size());
}

std::optional<std::vector<std::int64_t>> File::find_int_array(std::string_view key) const {
    const Value* value = array_of(*this, key, "an array of integers");
    if (value == nullptr) return std::nullopt;
    if (!is_integer(value->item_type) && value->count > 0)
        wrong_type(*this, key, "an array of integers", *value);
    std::vector<std::int64_t> out;
    out.reserve(value->count);
    const std::size_t size = type_size(value->item_type);
    for (std::uint64_t i = 0; i < value->count; ++i) {
        const auto item = integer_at(value->item_type, value->bytes.data() + i * size);
        if (!item) {
            throw GgufError(path().string() + ": key " + printable(key) +
                            " has an integer that does not fit 64 signed bits");
        }
        out.push_back(*item);
    }
    return out;
}

std::optional<std::vector<double>> File::find_float_array(std::string_view key) const {
    const Value* value = array_of(*this, key, "an array of floats");
    if (value == nullptr) return std::nullopt;
    const std::size_t size = type_size(value->item_type);
    if (!is_float(value->item_type) && value->count > 0) wrong_type(*this, key, "an array of floats", *value);
    std::vector<double> out;
    out.reserve(value->count);
    for (std::uint64_t i = 0; i < value->count; ++i) {
        out.push_back(*float_at(value->item_type, value->bytes.data() + i * size));
    }
    return out;
}

std::optional<std::vector<std::string_view>> File::find_string_array(std::string_view key) const {
    const Value* value = array_of(*this, key, "an array of strings");
    if (value == nullptr) return std::nullopt;
    if (value->item_type != ValueType::string && value->count > 0) {
        wrong_type(*this, key, "an array of strings", *value);
    }
    std::vector<std::string_view> out;
    out.reserve(value->count);
    Cursor cursor(value->bytes);
    for (std::string_view item; out.size() < value->count && cursor.read_string(item);) out.push_back(item);
    return out;
}

}  // namespace ds4::gguf
