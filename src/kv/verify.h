#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kv/directory.h"

namespace ds4::kv {

// A stored conversation up to one file: what the files on the way to it say together.
struct Chain {
    std::vector<std::string> names;  // from the first file to this one
    std::string key;                 // text
    std::vector<std::int32_t> tokens;
    std::uint64_t file_bytes = 0;  // of all of them
};

// Reads every byte of a file and of those it goes on from, and believes nothing. Throws KvError, IoError.
Chain verify_chain(const Directory& directory, const std::string& name);

}  // namespace ds4::kv
