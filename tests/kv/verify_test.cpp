#include "kv/verify.h"

#include <gmock/gmock.h>

#include "kv/stores.h"

namespace ds4 {
namespace {

using test::Stores;
using testing::SizeIs;

class Verify : public Stores {
  protected:
    // Two files, the second after the first; returns their names.
    std::pair<std::string, std::string> save_two() {
        const auto live = session(60);
        const CheckpointPtr first = live->mark();
        live->append(std::span(ids).subspan(60, 70));
        kv::Store store(options(), engine());
        store.save(save_of(first));
        store.save(save_of(live->mark()));
        return {kv::key_name(text_of(std::span(ids).first(60)), false),
                kv::key_name(text_of(std::span(ids).first(130)), false)};
    }
    kv::Directory open() {
        return kv::Directory({directory.path() / "kv", ~std::uint64_t{0}, [this] { return clock; },
                              [this](const std::string& line) { log.push_back(line); }});
    }
};

TEST_F(Verify, PutsChainsTogether) {
    const auto [first, second] = save_two();
    const kv::Directory left = open();
    const kv::Chain chain = kv::verify_chain(left, second);
    EXPECT_EQ(chain.names, (std::vector<std::string>{first, second}));
    EXPECT_EQ(chain.key, text_of(std::span(ids).first(130)));
    EXPECT_EQ(chain.tokens, (std::vector<TokenId>{ids.begin(), ids.begin() + 130}));
    EXPECT_EQ(chain.file_bytes, left.total_bytes());
}

TEST_F(Verify, SeesWhatTheHeaderDoesNotCover) {
    const auto [first, second] = save_two();
    const auto path = directory.path() / "kv" / (first + ".kv");
    const std::string bytes = test::read_file(path);
    for (const std::size_t at : {bytes.size() - 1, bytes.size() / 2, bytes.size() / 4}) {
        std::string broken = bytes;
        broken[at] = static_cast<char>(broken[at] ^ 1);
        test::write_file(path, broken);
        EXPECT_THROW(kv::verify_chain(open(), second), kv::KvError) << at;
    }
    test::write_file(path, bytes);
    // Under another name, or without its beginning.
    std::filesystem::rename(path, directory.path() / "kv" / (std::string(40, 'a') + ".kv"));
    EXPECT_THROW(kv::verify_chain(open(), std::string(40, 'a')), kv::KvError);
    EXPECT_THROW(kv::verify_chain(open(), second), kv::KvError);
}

TEST_F(Verify, GarbageGoesAndNothingElse) {
    const auto [first, second] = save_two();
    const auto in = [&](const std::string& name) { return directory.path() / "kv" / name; };
    test::write_file(in(std::string(40, 'b') + ".bad"), "broken");
    test::write_file(in(std::string(40, 'c') + ".kv.tmp.1.0"), "half");
    test::write_file(in("notes.txt"), "mine");
    test::write_file(in(std::string(40, 'd') + ".kv"),
                     "somebody else's, much longer than an envelope is, so it is read");
    EXPECT_EQ(open().collect_garbage(), 2U);
    EXPECT_EQ(open().entries().size(), 2U);
    EXPECT_TRUE(std::filesystem::exists(in("notes.txt")));
    EXPECT_TRUE(std::filesystem::exists(in(std::string(40, 'd') + ".kv")));
    std::filesystem::remove(in(first + ".kv"));
    EXPECT_EQ(open().collect_garbage(), 1U);
    EXPECT_THAT(open().entries(), SizeIs(0));
}

}  // namespace
}  // namespace ds4
