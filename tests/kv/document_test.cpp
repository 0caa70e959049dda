// docs/KV_FORMAT.md is enough to write a reader: here is one, and a conversation goes on from what it reads.
#include <gtest/gtest.h>

#include <cstring>

#include "kv/document_reader.h"
#include "kv/stores.h"
#include "quant/kv_rows.h"

namespace ds4::test {
namespace {

// tests/data/golden/alpha/config.json; the last of its ratios is the MTP block's.
DocumentedModel alpha() {
    return {{0, 0, 4, 128, 4, 128, 4}, 80, 16, 32, 16};
}

class Document : public Stores {
  protected:
    static constexpr std::size_t kLengths[] = {3, 70, 131, 259};

    // A chain of files; returns the name and the checkpoint of the last.
    std::string save_chain(CheckpointPtr& last) {
        kv::StoreOptions o = options();
        o.min_tokens = 1;
        kv::Store store(o, engine());
        const auto live = engine().new_session();
        for (const std::size_t n : kLengths) {
            live->append(std::span(ids).subspan(static_cast<std::size_t>(live->n_tokens()),
                                                n - static_cast<std::size_t>(live->n_tokens())));
            last = live->mark();
            auto save = save_of(last, kv::Reason::continued);
            save.tool_map = [n](std::string_view) {
                return std::vector<kv::ToolMapEntry>{
                    {"call_" + std::to_string(n), "block " + std::to_string(n)}};
            };
            EXPECT_EQ(store.save(save), kv::Store::Saved::written);
        }
        EXPECT_TRUE(store.load(store.find(key_of(ids)).front()));  // a hit
        return kv::key_name(text_of(std::span(ids).first(kLengths[3])), false);
    }
    DocumentedChain read_chain(const std::string& name) {
        return follow_documented(directory.path() / "kv", name);
    }
};

TEST_F(Document, SaysWhatIsInAFile) {
    CheckpointPtr last;
    const DocumentedChain chain = read_chain(save_chain(last));
    ASSERT_EQ(chain.files.size(), std::size(kLengths));
    EXPECT_EQ(chain.key, text_of(std::span(ids).first(kLengths[3])));
    EXPECT_EQ(chain.tokens, last->tokens());
    const DocumentedFile& file = chain.files.back();
    EXPECT_EQ(file.reason, 2);
    EXPECT_EQ(file.flags, 1);
    EXPECT_EQ(file.hits, 1U);
    EXPECT_EQ(file.context, 512U);
    EXPECT_EQ(file.created, clock);
    EXPECT_EQ(file.last_used, clock);
    EXPECT_EQ(file.fingerprint, engine().kv_fingerprint());
    EXPECT_EQ(file.tool_map, (std::map<std::string, std::string>{{"call_259", "block 259"}}));
}

TEST_F(Document, AConversationGoesOnFromIt) {
    CheckpointPtr last;
    const DocumentedChain chain = read_chain(save_chain(last));
    const auto loader = engine().load_checkpoint();
    std::size_t done = 0;
    for (const DocumentedFile& file : chain.files) {
        loader->add(std::span(chain.tokens).subspan(done, file.n_tokens - done),
                    std::as_bytes(std::span(file.sections[1])));
        done = file.n_tokens;
    }
    std::vector<float> logits(chain.files.back().sections[3].size() / sizeof(float));
    std::memcpy(logits.data(), chain.files.back().sections[3].data(), logits.size() * sizeof(float));
    const CheckpointPtr loaded =
        loader->finish(std::as_bytes(std::span(chain.files.back().sections[2])), logits);
    EXPECT_EQ(finish(loaded), finish(last));
}

// Every number of a row and of the state is where the document says: the sizes come out even at every place
// of the compressors' windows, and rows mean what they mean to the engine.
TEST_F(Document, SaysWhereTheNumbersAre) {
    const auto attention = quant::KvRowFormat::attention(quant::KvFormat::packed, 80, 16);
    const auto indexer = quant::KvRowFormat::indexer(quant::KvFormat::packed, 32);
    CheckpointPtr last;
    const DocumentedChain chain = read_chain(save_chain(last));
    const std::vector<DocumentedLayer> layers = decode_documented(alpha(), chain);
    EXPECT_EQ(layers[2].rows.size(), 259U / 4);
    EXPECT_EQ(layers[2].indexer_rows.size(), 259U / 4);
    EXPECT_EQ(layers[3].rows.size(), 2U);
    EXPECT_EQ(layers[0].raw_rows.size(), 16U);
    EXPECT_EQ(layers[2].values.size(), 4U * 80 + 3 * 160);
    EXPECT_EQ(layers[3].values.size(), 3U * 80);
    // The first rows of all: at the head of the first file that has any, of the layers one behind the other.
    const std::string& rows = chain.files[1].sections[1];
    std::vector<float> row(80), indexer_row(32);
    quant::decode_kv_row(attention, reinterpret_cast<const std::byte*>(rows.data()), row.data());
    EXPECT_EQ(layers[2].rows[0], row);
    quant::decode_kv_row(indexer, reinterpret_cast<const std::byte*>(rows.data()) + 70 / 4 * attention.bytes,
                         indexer_row.data());
    EXPECT_EQ(layers[2].indexer_rows[0], indexer_row);
    quant::decode_kv_row(attention, reinterpret_cast<const std::byte*>(chain.files.back().sections[2].data()),
                         row.data());
    EXPECT_EQ(layers[0].raw_rows[0], row);
    // All of it is of the size that such numbers have, which it would not be a byte further.
    for (const DocumentedLayer& layer : layers) {
        for (const auto* all : {&layer.values, &layer.indexer_values, &layer.scores, &layer.indexer_scores}) {
            for (const float value : *all) EXPECT_LT(std::abs(value), 100);
        }
        for (const auto* all : {&layer.rows, &layer.raw_rows, &layer.indexer_rows}) {
            for (const auto& one : *all) {
                for (const float value : one) EXPECT_LT(std::abs(value), 100);
            }
        }
    }
}

// A key that hides reasoning is whole in its file; a forged control token salts the name.
TEST_F(Document, SaysHowVisibleAndSaltedKeysAreNamed) {
    const auto live = session(40);
    kv::Store store(options(), engine());
    store.save(save_of(live->mark()));
    live->append(std::span(ids).subspan(40, 10));
    auto save = save_of(live->mark());
    save.kind = kv::KeyKind::thinking_visible;
    save.key = [] { return kv::Key{"what the client saw", 4}; };
    store.save(save);
    const DocumentedChain chain = read_chain(kv::key_name("what the client saw", true));
    EXPECT_EQ(chain.files.size(), 2U);
    EXPECT_EQ(chain.key, "what the client saw");
    EXPECT_EQ(chain.files.back().flags, 4 | 8);
    EXPECT_EQ(chain.tokens.size(), 50U);
}

}  // namespace
}  // namespace ds4::test
