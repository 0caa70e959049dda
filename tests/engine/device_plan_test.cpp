#include "engine/device_plan.h"

#include <gmock/gmock.h>

#include <memory>

#include "ds4/error.h"

namespace ds4 {
namespace {

using testing::HasSubstr;

class DevicePlanTest : public testing::Test {
  protected:
    DevicePlanTest()
        : file(gguf::File::open(std::string(DS4_MODELS) + "/ds4-tiny.gguf")),
          config(Config::from_gguf(file)),
          layout(config, config.ratios, quant::KvFormat::packed) {
        options.max_batch = 512;
        options.plan_sessions = 3;
        options.plan_context = 1024;
    }

    DevicePlan plan(double free) const { return plan_device(file, config, layout, options, free, 80e9); }
    std::string refusal(double free) const {
        try {
            plan(free);
        } catch (const DeviceMemoryError& error) {
            return error.what();
        }
        return "none";
    }

    gguf::File file;
    Config config;
    KvLayout layout;
    EngineOptions options;
};

TEST_F(DevicePlanTest, CountsEverything) {
    const DevicePlan p = plan(80e9);
    EXPECT_GE(p.weights, static_cast<double>(file.data_bytes()));
    EXPECT_LE(p.weights, 1.02 * static_cast<double>(file.data_bytes()));  // rows and inputs rounded up
    EXPECT_EQ(p.tensors.size(), file.tensors().size());
    EXPECT_EQ(p.kv_state, 3 * static_cast<double>(layout.bytes_for(1024)));
    EXPECT_GT(p.activations, 0);
    EXPECT_GT(p.scratch, 0);
    EXPECT_TRUE(p.fits());
    EXPECT_TRUE(plan(p.needed()).fits());
}

TEST_F(DevicePlanTest, SaysWhatDoesNotFitAndTheWayOut) {
    const double needed = plan(80e9).needed();
    EXPECT_THAT(refusal(needed - 1),
                testing::AllOf(HasSubstr("ds4-tiny.gguf: "), HasSubstr("of 80.00 GB are free"),
                               HasSubstr("for 3 x 1024 tokens"), HasSubstr("a shorter --ctx")));
    EXPECT_THAT(refusal(1e6), testing::AllOf(HasSubstr("a smaller file"), HasSubstr("--backend cpu")));
}

// The context planned for is at most the model's.
TEST_F(DevicePlanTest, PlansNoMoreThanTheModelsContext) {
    options.plan_context = config.max_context;
    const double most = plan(80e9).kv_state;
    options.plan_context = 100 * config.max_context;
    EXPECT_EQ(plan(80e9).kv_state, most);
}

}  // namespace
}  // namespace ds4
