#pragma once

#include <string>
#include <vector>

#include "kv/stores.h"

namespace ds4::test {

// Two small checkpoints, one going on from the other, both with a tool map. One byte after the other is
// changed in each: whatever comes back then is what was saved.
class CorruptBytes : public Stores {
  protected:
    CorruptBytes() : Stores(fast_directory()) {}
    // stride: of the bytes of sections, which a checksum each covers; everything else is changed byte by
    // byte.
    void change_every(std::size_t stride);

  private:
    struct File {
        CheckpointPtr point;
        std::string name, bytes;
        std::vector<kv::ToolMapEntry> map;  // what loading it gives
        std::size_t sections = 0, end_of_sections = 0;
    };

    kv::StoreOptions small();
    std::filesystem::path path_of(const File& file) const;
    void save_two();
    void change(const File& file, std::size_t at, char value);
    // This file and what goes on from it. Returns what was not refused, all of which is as it was saved.
    std::vector<std::string> load_from(kv::Store& store, const File& first, bool must_be_found);
    bool is_as_saved(const kv::Store::Loaded& loaded, const File& file) const;

    std::vector<File> files_;
    std::unique_ptr<kv::Store> known_;
    std::size_t n_harmless_ = 0, n_seen_ = 0;
};

}  // namespace ds4::test
