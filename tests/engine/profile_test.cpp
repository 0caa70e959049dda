#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "ds4/engine.h"
#include "engine/sessions.h"

namespace ds4 {
namespace {

using testing::Contains;
using testing::HasSubstr;

class Profiled : public test::Sessions {
  protected:
    static std::unique_ptr<Engine> open(bool profile) {
        static const test::AlphaFiles files;
        EngineOptions o;
        o.model = files.trunk;
        o.threads = 1;
        o.max_batch = 64;
        o.profile = profile;
        return Engine::open(o);
    }
};

// Every operation of the model passes through the decorator.
TEST_F(Profiled, ChangesNoBit) {
    const auto plain = open(false);
    const auto profiled = open(true);
    const auto a = plain->new_session();
    const auto b = profiled->new_session();
    a->append(ids);
    b->append(ids);
    EXPECT_EQ(copy(a->logits()), copy(b->logits()));
    EXPECT_TRUE(plain->take_profile().empty());
}

TEST_F(Profiled, TellsPartsOfTheModelApart) {
    const auto engine = open(true);
    const auto session = engine->new_session();
    session->append(ids);
    const std::vector<OpProfile> profile = engine->take_profile();
    std::set<std::string> sections;
    for (const OpProfile& p : profile) {
        sections.insert(p.section);
        EXPECT_GT(p.calls, 0) << p.operation;
        EXPECT_GT(p.bytes, 0) << p.operation;
        if (p.section == "embedding" || p.operation == "hc head") {
            EXPECT_THAT(p.operation, testing::AnyOf("embed", "hc head"));
        }
    }
    EXPECT_THAT(sections, testing::UnorderedElementsAre("embedding", "SWA layers", "CSA layers", "HCA layers",
                                                        "output head"));
    EXPECT_TRUE(engine->take_profile().empty());
}

}  // namespace
}  // namespace ds4
