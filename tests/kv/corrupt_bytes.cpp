#include "kv/corrupt_bytes.h"

#include <fcntl.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>

#include "kv/posix_file.h"

namespace ds4::test {
namespace {

bool is_same(std::span<const std::byte> a, std::span<const std::byte> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

std::vector<std::byte> rows_of(const Checkpoint& point) {
    std::vector<std::byte> rows(point.rows_bytes(0));
    point.read_rows(0, rows);
    return rows;
}

// Hits and last use: they change in place and decide about nothing but what is deleted first.
bool changes_in_place(std::size_t at) {
    return (at >= kv::kHitsOffset && at < kv::kHitsOffset + 4) ||
           (at >= kv::kLastUsedOffset && at < kv::kLastUsedOffset + 8);
}

}  // namespace

kv::StoreOptions CorruptBytes::small() {
    kv::StoreOptions o = options();
    o.min_tokens = 1;
    return o;
}

std::filesystem::path CorruptBytes::path_of(const File& file) const {
    return directory.path() / "kv" / (file.name + ".kv");
}

void CorruptBytes::save_two() {
    kv::Store store(small(), engine());
    const auto live = engine().new_session();
    std::vector<kv::ToolMapEntry> map;
    for (const std::size_t n : {1U, 3U}) {
        live->append(std::span(ids).subspan(static_cast<std::size_t>(live->n_tokens()), n));
        const std::vector<kv::ToolMapEntry> own = {{"call_" + std::to_string(n), "block"}};
        auto save = save_of(live->mark());
        save.tool_map = [&](std::string_view) { return own; };
        ASSERT_EQ(store.save(save), kv::Store::Saved::written);
        map.insert(map.end(), own.begin(), own.end());
        File& file = files_.emplace_back();
        file.point = save.checkpoint;
        file.name = kv::key_name(save.key().text, false);
        file.map = map;
        file.bytes = read_file(path_of(file));
        const auto header = kv::decode_header(std::as_bytes(std::span(file.bytes)), file.bytes.size());
        file.sections = header.sections.front().offset;
        file.end_of_sections = header.sections.back().offset + header.sections.back().bytes;
        ASSERT_EQ(header.parent.empty(), n == 1);
    }
}

bool CorruptBytes::is_as_saved(const kv::Store::Loaded& loaded, const File& file) const {
    const Checkpoint& point = *loaded.points.back();
    return point.tokens() == file.point->tokens() && is_same(point.state(), file.point->state()) &&
           is_same(std::as_bytes(point.logits()), std::as_bytes(file.point->logits())) &&
           rows_of(point) == rows_of(*file.point) && loaded.tool_map == file.map;
}

std::vector<std::string> CorruptBytes::load_from(kv::Store& store, const File& first, bool must_be_found) {
    std::vector<std::string> names;
    auto found = store.find(key_of(ids));
    EXPECT_TRUE(!must_be_found || found.size() == files_.size());
    std::erase_if(found, [&](const auto& f) { return f.n_tokens < first.point->n_tokens(); });
    for (const kv::Store::Found& f : found) {
        const auto loaded = store.load(f);
        if (!loaded) continue;
        const auto file = std::find_if(files_.begin(), files_.end(),
                                       [&](const File& candidate) { return candidate.name == f.name; });
        EXPECT_TRUE(file != files_.end() && is_as_saved(*loaded, *file));
        names.push_back(f.name);
    }
    return names;
}

void CorruptBytes::change(const File& file, std::size_t at, char value) {
    SCOPED_TRACE(file.name + " byte " + std::to_string(at));
    const auto poke = [&](const char* byte) {
        kv::PosixFile::open(path_of(file), O_RDWR).write_at(at, std::as_bytes(std::span(byte, 1)));
    };
    poke(&value);
    // A store that knows the file's header already, and where the header is concerned a new one.
    if (known_ == nullptr) known_ = std::make_unique<kv::Store>(small(), engine());
    const bool is_of_header = at < file.sections;
    std::vector<std::string> loaded;
    if (is_of_header) {
        kv::Store store(small(), engine());
        loaded = load_from(store, file, false);
    } else {
        loaded = load_from(*known_, file, true);
    }
    const bool is_seen = std::find(loaded.begin(), loaded.end(), file.name) == loaded.end();
    EXPECT_EQ(is_seen, !changes_in_place(at));
    ++(is_seen ? n_seen_ : n_harmless_);
    // As it was.
    for (const File& f : files_) {
        const auto aside = directory.path() / "kv" / (f.name + ".bad");
        if (std::filesystem::exists(aside)) std::filesystem::rename(aside, path_of(f));
    }
    poke(&file.bytes[at]);
}

void CorruptBytes::change_every(std::size_t stride) {
    save_two();
    if (HasFatalFailure()) return;
    for (const File& file : files_) {
        for (std::size_t at = 0; at < file.bytes.size() && !HasFailure();) {
            const char old = file.bytes[at];
            for (const char value : {static_cast<char>(~old), static_cast<char>(old ^ 1),
                                     old == 0 ? static_cast<char>(0x80) : '\0'}) {
                change(file, at, value);
            }
            const bool is_of_section = at >= file.sections && at + stride < file.end_of_sections;
            at += is_of_section ? stride : 1;
        }
    }
    EXPECT_EQ(n_harmless_, 2U * 12 * 3);
    EXPECT_GT(n_seen_, 1000U);
    EXPECT_THAT(log, testing::Contains(testing::HasSubstr("set aside")));
    kv::Store store(small(), engine());
    EXPECT_EQ(load_from(store, files_.front(), true).size(), files_.size());
}

}  // namespace ds4::test
