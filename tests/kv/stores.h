#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "ds4/engine.h"
#include "kv/store.h"
#include "model/alpha.h"
#include "temporary_directory.h"

namespace ds4::test {

// A store of checkpoints of the golden model. Its tokens have no text, so a text is made up from their ids.
class Stores : public testing::Test {
  protected:
    explicit Stores(const std::filesystem::path& parent = std::filesystem::temp_directory_path())
        : directory(parent) {}

    static Engine& engine() {
        static const AlphaFiles files;
        static const std::unique_ptr<Engine> loaded = [] {
            EngineOptions options;
            options.model = files.trunk;
            options.threads = 1;
            options.max_batch = 64;
            return Engine::open(options);
        }();
        return *loaded;
    }

    kv::StoreOptions options() {
        kv::StoreOptions o;
        o.directory = directory.path() / "kv";
        o.min_tokens = 8;
        o.context = 512;
        o.now = [this] { return clock; };
        o.log = [this](const std::string& line) { log.push_back(line); };
        return o;
    }

    static std::string text_of(std::span<const TokenId> tokens) {
        std::string text;
        for (const TokenId t : tokens) text += "<" + std::to_string(t) + ">";
        return text;
    }
    static kv::Key key_of(std::span<const TokenId> tokens) { return {text_of(tokens)}; }

    static kv::Store::Save save_of(const CheckpointPtr& checkpoint, kv::Reason reason = kv::Reason::evict) {
        kv::Store::Save save;
        save.checkpoint = checkpoint;
        save.key = [checkpoint] { return key_of(checkpoint->tokens()); };
        save.reason = reason;
        return save;
    }

    // A session with the first n golden tokens.
    std::unique_ptr<Session> session(std::size_t n) const {
        auto s = engine().new_session();
        s->append(std::span(ids).first(n));
        return s;
    }

    std::vector<std::filesystem::path> files(const std::string& suffix = ".kv") {
        std::vector<std::filesystem::path> found;
        for (const auto& file : std::filesystem::directory_iterator(directory.path() / "kv")) {
            if (file.path().extension() == suffix) found.push_back(file.path());
        }
        return found;
    }

    // The logits after all golden tokens, going on from this checkpoint.
    std::vector<float> finish(const CheckpointPtr& from) const {
        const auto s = engine().resume({&from, 1});
        s->append(std::span(ids).subspan(static_cast<std::size_t>(from->n_tokens())));
        return {s->logits().begin(), s->logits().end()};
    }

    const std::vector<TokenId> ids = AlphaExpected().integers("tokens");
    TemporaryDirectory directory;
    std::uint64_t clock = 1'800'000'000;
    std::vector<std::string> log;
};

}  // namespace ds4::test
