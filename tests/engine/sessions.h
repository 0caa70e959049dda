#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <vector>

#include "ds4/engine.h"
#include "model/alpha.h"

namespace ds4::test {

// Sessions of the golden model.
class Sessions : public testing::Test {
  protected:
    static Engine& engine() {
        static const test::AlphaFiles files;
        static const std::unique_ptr<Engine> loaded = [] {
            EngineOptions options;
            options.model = files.trunk;
            options.threads = 1;
            options.max_batch = 64;
            return Engine::open(options);
        }();
        return *loaded;
    }

    static std::vector<float> copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

    const std::vector<TokenId> ids = test::AlphaExpected().integers("tokens");
};

}  // namespace ds4::test
