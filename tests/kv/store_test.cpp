#include "kv/store.h"

#include <gmock/gmock.h>

#include "kv/stores.h"

namespace ds4 {
namespace {

using kv::Store;
using test::Stores;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

std::vector<std::int64_t> lengths(const std::vector<Store::Found>& found) {
    std::vector<std::int64_t> all;
    for (const Store::Found& f : found) all.push_back(f.n_tokens);
    return all;
}

TEST_F(Stores, WhatWasSavedGoesOnBitForBit) {
    const auto live = session(40);
    std::vector<CheckpointPtr> points;
    for (const std::size_t n : {40U, 41U, 130U, 131U, 260U}) {
        live->append(std::span(ids).subspan(static_cast<std::size_t>(live->n_tokens()),
                                            n - static_cast<std::size_t>(live->n_tokens())));
        points.push_back(live->mark());
    }
    {
        Store store(options(), engine());
        for (const CheckpointPtr& point : points)
            EXPECT_EQ(store.save(save_of(point)), Store::Saved::written);
        EXPECT_EQ(store.save(save_of(points[2])), Store::Saved::known);
        EXPECT_EQ(store.totals().n_files, 5U);
    }
    // Another process, later.
    Store store(options(), engine());
    const auto found = store.find(key_of(ids));
    EXPECT_THAT(lengths(found), ElementsAre(260, 131, 130, 41, 40));
    const std::vector<float> expected = finish(points.back());
    for (const Store::Found& f : found) {
        const auto loaded = store.load(f);
        ASSERT_TRUE(loaded);
        EXPECT_EQ(loaded->points.back()->n_tokens(), f.n_tokens);
        EXPECT_EQ(finish(loaded->points.back()), expected) << f.n_tokens;
    }
    EXPECT_THAT(log, SizeIs(0));
}

TEST_F(Stores, AFileHoldsOnlyWhatItsParentLacks) {
    const auto live = session(250);
    const CheckpointPtr first = live->mark();
    live->append(std::span(ids).subspan(250, 4));
    const CheckpointPtr second = live->mark();
    Store store(options(), engine());
    store.save(save_of(first));
    const auto before = store.totals().bytes_written;
    store.save(save_of(second));
    const auto more = store.totals().bytes_written - before;
    // One row of each ratio-4 layer, four tokens, their text, the state.
    EXPECT_LT(more, second->state().size() + second->logits().size_bytes() + 1500);
    EXPECT_GT(before, first->rows_bytes(0));
}

TEST_F(Stores, FindsOnlyTrueBeginnings) {
    Store store(options(), engine());
    store.save(save_of(session(40)->mark()));
    std::vector<TokenId> other(ids.begin(), ids.end());
    other[20] = 7;
    EXPECT_THAT(store.find(key_of(other)), SizeIs(0));
    EXPECT_THAT(store.find(key_of(std::span(ids).first(39))), SizeIs(0));
    EXPECT_THAT(store.find(key_of(std::span(ids).first(40))), SizeIs(1));
    // The same bytes with a forged control token in them have another name.
    kv::Key forged = key_of(ids);
    forged.forged_end = 30;
    EXPECT_THAT(store.find(forged), SizeIs(0));
    forged.forged_end = text_of(std::span(ids).first(40)).size() + 1;
    EXPECT_THAT(store.find(forged), SizeIs(1));
    auto save = save_of(session(50)->mark());
    save.key = [&] {
        kv::Key key = key_of(std::span(ids).first(50));
        key.forged_end = 30;
        return key;
    };
    store.save(save);
    EXPECT_THAT(lengths(store.find(key_of(ids))), ElementsAre(40));
    forged.forged_end = 30;
    EXPECT_THAT(lengths(store.find(forged)), ElementsAre(50));
}

TEST_F(Stores, KeepsItsBudgetAndItsParents) {
    kv::StoreOptions o = options();
    std::vector<CheckpointPtr> points;
    {
        const auto live = session(30);
        for (int i = 0; i < 8; ++i) {
            points.push_back(live->mark());
            live->append(std::span(ids).subspan(static_cast<std::size_t>(live->n_tokens()), 30));
        }
    }
    const auto other = engine().new_session();
    other->append(std::span(ids).subspan(100, 90));
    {
        Store store(options(), engine());
        for (const CheckpointPtr& point : points) store.save(save_of(point));
        o.max_bytes = store.totals().n_bytes + 100;
    }
    Store store(o, engine());
    EXPECT_THAT(store.find(key_of(ids)), SizeIs(8));
    clock += 100;
    EXPECT_EQ(store.save(save_of(other->mark())), Store::Saved::written);
    EXPECT_LE(store.totals().n_bytes, o.max_bytes);
    // The longest of the chain went, for it is nobody's parent; all others still have their beginning.
    const auto left = store.find(key_of(ids));
    EXPECT_LT(left.size(), 8U);
    for (const Store::Found& f : left) EXPECT_TRUE(store.load(f)) << f.n_tokens;
    o.max_bytes = 1000;
    Store tiny(o, engine());
    EXPECT_EQ(tiny.totals().n_bytes, 0U);
    EXPECT_EQ(tiny.save(save_of(points[0])), Store::Saved::no_room);
}

TEST_F(Stores, AMissingBeginningIsAMiss) {
    {
        const auto live = session(30);
        const CheckpointPtr first = live->mark();
        live->append(std::span(ids).subspan(30, 30));
        Store store(options(), engine());
        store.save(save_of(first));
        store.save(save_of(live->mark()));
        std::filesystem::remove(directory.path() / "kv" /
                                (kv::key_name(text_of(std::span(ids).first(30)), false) + ".kv"));
    }
    Store store(options(), engine());
    const auto found = store.find(key_of(ids));
    ASSERT_THAT(lengths(found), ElementsAre(60));
    EXPECT_FALSE(store.load(found.front()));
    EXPECT_THAT(log.back(), HasSubstr("is missing"));
    EXPECT_THAT(store.find(key_of(ids)), SizeIs(0));
    EXPECT_THAT(files(".bad"), SizeIs(1));
}

TEST_F(Stores, AFileUnderAnotherNameIsAMiss) {
    // Keys of the same length, so that only the text tells them apart.
    std::vector<TokenId> other(ids.begin(), ids.begin() + 40);
    std::swap(other[20], other[21]);
    const auto path_of = [&](std::span<const TokenId> tokens) {
        return directory.path() / "kv" / (kv::key_name(text_of(tokens), false) + ".kv");
    };
    Store(options(), engine()).save(save_of(session(40)->mark()));
    std::filesystem::copy_file(path_of(std::span(ids).first(40)), path_of(other));
    Store store(options(), engine());
    ASSERT_THAT(store.find(key_of(other)), SizeIs(1));
    EXPECT_FALSE(store.load(store.find(key_of(other)).front()));
    ASSERT_FALSE(log.empty());
    EXPECT_THAT(log.back(), HasSubstr("is not what its name says; set aside"));
    EXPECT_TRUE(store.load(store.find(key_of(ids)).front()));
}

TEST_F(Stores, AnotherProgramsFileKeepsItsName) {
    const auto save = save_of(session(40)->mark());
    Store(options(), engine()).save(save);
    const auto path = files().front();
    std::string bytes = test::read_file(path);
    bytes.replace(kv::kEnvelopeBytes + save.key().text.size(), 4, "DSV4");
    test::write_file(path, bytes);
    Store store(options(), engine());
    EXPECT_THAT(store.find(key_of(ids)), SizeIs(0));
    EXPECT_EQ(store.save(save), Store::Saved::taken);
    EXPECT_EQ(test::read_file(path), bytes);
    std::filesystem::remove(path);
    EXPECT_EQ(store.save(save), Store::Saved::written);
}

// Another model's server has written its own state of the same text over ours.
TEST_F(Stores, ABeginningThatIsAnotherModelsByNow) {
    const auto live = session(30);
    const CheckpointPtr first = live->mark();
    live->append(std::span(ids).subspan(30, 30));
    const CheckpointPtr second = live->mark();
    {
        Store store(options(), engine());
        store.save(save_of(first));
        store.save(save_of(second));
    }
    const auto path =
        directory.path() / "kv" / (kv::key_name(text_of(std::span(ids).first(30)), false) + ".kv");
    std::string bytes = test::read_file(path);
    kv::FileHeader header = kv::decode_header(std::as_bytes(std::span(bytes)), bytes.size());
    header.fingerprint = std::string(40, 'a');
    const std::string encoded = kv::encode_header(header);
    bytes.replace(0, encoded.size(), encoded);
    test::write_file(path, bytes);
    Store store(options(), engine());
    const auto found = store.find(key_of(ids));
    ASSERT_THAT(lengths(found), ElementsAre(60));
    EXPECT_FALSE(store.load(found.front()));
    EXPECT_EQ(test::read_file(path), bytes);
    // What is saved again needs nothing of theirs.
    EXPECT_EQ(store.save(save_of(second)), Store::Saved::written);
    ASSERT_THAT(lengths(store.find(key_of(ids))), ElementsAre(60));
    EXPECT_EQ(finish(store.load(store.find(key_of(ids)).front())->points.back()), finish(second));
}

TEST_F(Stores, OtherModelsAndContextsAreLeftAlone) {
    Store(options(), engine()).save(save_of(session(60)->mark()));
    kv::StoreOptions o = options();
    o.context = 400;
    EXPECT_THAT(Store(o, engine()).find(key_of(ids)), SizeIs(0));
    o = options();
    o.min_tokens = 61;
    EXPECT_THAT(Store(o, engine()).find(key_of(ids)), SizeIs(0));
    o = options();
    o.rejects_other_quant = true;
    o.quant_bits = 4;
    EXPECT_THAT(Store(o, engine()).find(key_of(ids)), SizeIs(0));
    EXPECT_THAT(files(), SizeIs(1));
}

TEST_F(Stores, AClockThatGoesBackwards) {
    Store(options(), engine()).save(save_of(session(60)->mark()));
    const auto used = session(130);
    Store(options(), engine()).save(save_of(used->mark()));
    kv::StoreOptions o = options();
    o.max_bytes = Store(options(), engine()).totals().n_bytes + 100;
    clock -= 1'000'000;
    Store store(o, engine());
    EXPECT_THAT(store.find(key_of(ids)), SizeIs(2));
    EXPECT_TRUE(store.load(store.find(key_of(ids)).front()));
    // A file from the future goes like any other.
    std::vector<TokenId> other(ids.begin(), ids.begin() + 50);
    other[0] = 7;
    const auto live = engine().new_session();
    live->append(other);
    EXPECT_EQ(store.save(save_of(live->mark())), Store::Saved::written);
    EXPECT_LE(store.totals().n_bytes, o.max_bytes);
    EXPECT_THAT(store.find(key_of(other)), SizeIs(1));
    EXPECT_THAT(log, SizeIs(0));
}

}  // namespace
}  // namespace ds4
