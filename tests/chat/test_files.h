#pragma once

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace ds4::test {

// `name` is relative to tests/data.
inline std::string read_file(const std::string& name) {
    std::ifstream in(DS4_TEST_DATA "/" + name, std::ios::binary);
    if (!in) throw std::runtime_error("cannot read " + name);
    return {std::istreambuf_iterator<char>(in), {}};
}

// Keeps the order of keys.
inline nlohmann::ordered_json read_json(const std::string& name) {
    return nlohmann::ordered_json::parse(read_file(name));
}

}  // namespace ds4::test
