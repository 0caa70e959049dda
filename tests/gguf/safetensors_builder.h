#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ds4::test {

// Length, header text, data: what the header says is not checked.
inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
    std::string bytes(8, '\0');
    const std::uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, sizeof length);
    return bytes.append(header).append(data);
}

// Collects honest tensors.
class SafetensorsBuilder {
  public:
    SafetensorsBuilder& add(const std::string& name, std::string_view dtype,
                            std::span<const std::uint64_t> shape, std::span<const std::byte> data) {
        header_ += header_.empty() ? "{" : ",";
        header_.append("\"").append(name).append("\":{\"dtype\":\"").append(dtype).append("\",\"shape\":[");
        for (std::size_t i = 0; i < shape.size(); ++i) {
            header_.append(i > 0 ? "," : "").append(std::to_string(shape[i]));
        }
        header_.append("],\"data_offsets\":[").append(std::to_string(data_.size())).append(",");
        data_.append(reinterpret_cast<const char*>(data.data()), data.size());
        header_.append(std::to_string(data_.size())).append("]}");
        return *this;
    }
    template <class T>
    SafetensorsBuilder& add(const std::string& name, std::string_view dtype, std::vector<std::uint64_t> shape,
                            const std::vector<T>& values) {
        return add(name, dtype, std::span<const std::uint64_t>(shape), std::as_bytes(std::span(values)));
    }

    std::string bytes() const { return safetensors_bytes(header_.empty() ? "{}" : header_ + "}", data_); }

  private:
    std::string header_;
    std::string data_;
};

}  // namespace ds4::test
