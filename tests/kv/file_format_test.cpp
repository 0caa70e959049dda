#include "kv/file_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/hash.h"

namespace ds4::kv {
namespace {

FileHeader some_header() {
    FileHeader h;
    h.quant_bits = 2;
    h.reason = Reason::continued;
    h.key_kind = KeyKind::thinking_visible;
    h.is_salted = true;
    h.n_tokens = 1000;
    h.n_context = 4096;
    h.created = 1'800'000'000;
    h.last_used = 1'800'000'001;
    h.hits = 7;
    h.text = "more text";
    h.fingerprint = std::string(40, 'a');
    h.tokens_sha1 = std::string(40, 'b');
    h.parent = std::string(39, '0') + "1";
    h.parent_tokens_sha1 = std::string(40, 'd');
    h.n_parent_tokens = 600;
    h.key_bytes = 109;
    h.parent_key_bytes = 100;
    h.tool_map_bytes = 12;
    h.tool_map_checksum = 99;
    const std::uint64_t sizes[] = {1600, 5000, 300, 64};
    lay_out(h, sizes);
    for (Section& s : h.sections) s.checksum = s.bytes * 3;
    return h;
}

FileHeader decode(const std::string& bytes, std::uint64_t file_bytes) {
    return decode_header(std::as_bytes(std::span(bytes)), file_bytes);
}

TEST(KvFileFormat, HeadersComeBack) {
    const FileHeader h = some_header();
    const std::string bytes = encode_header(h);
    ASSERT_EQ(bytes.size(), header_bytes(h.text.size()));
    EXPECT_EQ(bytes.substr(0, 4), std::string("KVC\1", 4));
    const FileHeader back = decode(bytes, h.file_bytes());
    EXPECT_EQ(encode_header(back), bytes);
    EXPECT_EQ(back.text, h.text);
    EXPECT_EQ(back.parent, h.parent);
    EXPECT_EQ(back.hits, 7U);
    EXPECT_EQ(back.key_kind, KeyKind::thinking_visible);
    EXPECT_TRUE(back.is_salted);
    EXPECT_EQ(back.section(Section::Kind::rows).bytes, 5000U);
    EXPECT_EQ(back.file_bytes(), h.file_bytes());
}

// Every byte and every bit of a header: an error, or one of the two fields that change in place.
TEST(KvFileFormat, EveryBitOfAHeaderCounts) {
    const FileHeader h = some_header();
    const std::string bytes = encode_header(h);
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        const bool changes_in_place = (at >= kHitsOffset && at < kHitsOffset + 4) ||
                                      (at >= kLastUsedOffset && at < kLastUsedOffset + 8);
        for (int bit = 0; bit < 8; ++bit) {
            std::string broken = bytes;
            broken[at] = static_cast<char>(broken[at] ^ (1 << bit));
            if (changes_in_place) {
                EXPECT_NO_THROW(decode(broken, h.file_bytes()));
            } else {
                EXPECT_THROW(decode(broken, h.file_bytes()), KvError) << at;
            }
        }
    }
}

TEST(KvFileFormat, CutAndPaddedFiles) {
    const FileHeader h = some_header();
    const std::string bytes = encode_header(h);
    for (std::size_t n = 0; n < bytes.size(); ++n) {
        EXPECT_THROW(decode(bytes.substr(0, n), h.file_bytes()), KvError) << n;
        EXPECT_THROW(decode(bytes.substr(0, n), n), KvError) << n;
    }
    EXPECT_THROW(decode(bytes, h.file_bytes() - 1), KvError);
    EXPECT_THROW(decode(bytes, h.file_bytes() + 1), KvError);
}

// Numbers that a program of bad will would write, with a right checksum.
TEST(KvFileFormat, HostileNumbers) {
    const auto refuses = [](const std::function<void(FileHeader&)>& change) {
        FileHeader h = some_header();
        change(h);
        EXPECT_THROW(decode(encode_header(h), some_header().file_bytes()), KvError);
    };
    refuses([](FileHeader& h) { h.sections[0].offset += 1; });
    refuses([](FileHeader& h) { h.sections[1].bytes = ~std::uint64_t{0}; });
    refuses([](FileHeader& h) { h.sections[1].bytes = ~std::uint64_t{0} - h.sections[1].offset + 1; });
    refuses([](FileHeader& h) { h.sections[3].kind = Section::Kind::rows; });
    refuses([](FileHeader& h) { h.sections.pop_back(); });
    refuses([](FileHeader& h) { h.tool_map_bytes = ~std::uint64_t{0}; });
    refuses([](FileHeader& h) { h.n_parent_tokens = 1000; });
    refuses([](FileHeader& h) { h.n_parent_tokens = 0; });
    refuses([](FileHeader& h) { h.parent.clear(); });
    refuses([](FileHeader& h) { h.n_tokens = 0; });
    refuses([](FileHeader& h) { h.n_tokens = 1001; });
    refuses([](FileHeader& h) { h.key_bytes = 108; });
    refuses([](FileHeader& h) { h.parent_key_bytes = 110; });
    refuses([](FileHeader& h) { h.fingerprint.clear(); });
}

TEST(KvFileFormat, OtherProgramsFilesAreForeign) {
    const FileHeader h = some_header();
    std::string bytes = encode_header(h);
    std::string other = bytes;
    other[3] = 2;
    EXPECT_THROW(decode(other, h.file_bytes()), ForeignFile);
    other = bytes;
    other[0] = 'X';
    EXPECT_THROW(decode(other, h.file_bytes()), ForeignFile);
    other = bytes;
    other.replace(kEnvelopeBytes + h.text.size(), 4, "DSV4");
    EXPECT_THROW(decode(other, h.file_bytes()), ForeignFile);
}

TEST(KvFileFormat, NamesAreSha1OfTheKey) {
    EXPECT_EQ(key_name("abc", false), "a9993e364706816aba3e25717850c26c9cd0d89d");
    EXPECT_EQ(key_name("abc", true), sha1_hex(std::string_view("\1abc")));
}

TEST(KvFileFormat, ToolMapsStopAtTheFirstInconsistency) {
    const std::vector<ToolMapEntry> entries = {
        {"call_1", "block one"}, {"call_2", ""}, {"x", std::string(300, 'y')}};
    const std::string bytes = encode_tool_map(entries);
    EXPECT_EQ(decode_tool_map(bytes), entries);
    EXPECT_EQ(encode_tool_map({}), "");
    for (std::size_t n = 0; n < bytes.size(); ++n) {
        const auto some = decode_tool_map(std::string_view(bytes).substr(0, n));
        ASSERT_LT(some.size(), entries.size());
        EXPECT_TRUE(std::equal(some.begin(), some.end(), entries.begin()));
    }
    const std::vector<ToolMapEntry> long_id = {{std::string(257, 'i'), "b"}};
    EXPECT_TRUE(decode_tool_map(encode_tool_map(long_id)).empty());
}

}  // namespace
}  // namespace ds4::kv
