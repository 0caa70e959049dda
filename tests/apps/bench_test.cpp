// ds4-bench: which contexts are measured, and what is printed about them. Never how fast.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "apps/bench/chart.h"
#include "apps/bench/frontiers.h"
#include "apps/run_program.h"
#include "temporary_directory.h"

namespace ds4::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Frontiers, GoUpInEqualSteps) {
    EXPECT_THAT((Frontiers{10, 30, 10, 1}.list()), ElementsAre(10, 20, 30));
    EXPECT_THAT((Frontiers{10, 35, 10, 1}.list()), ElementsAre(10, 20, 30, 35));
    EXPECT_THAT((Frontiers{10, 10, 10, 1}.list()), ElementsAre(10));
}

TEST(Frontiers, GoUpByAFactor) {
    EXPECT_THAT((Frontiers{10, 100, 7, 2}.list()), ElementsAre(10, 20, 40, 80, 100));
    EXPECT_THAT((Frontiers{1, 5, 7, 1.1}.list()), ElementsAre(1, 2, 3, 4, 5));
}

FrontierSpeed some_speed(std::int64_t context) {
    FrontierSpeed s;
    s.context = context;
    s.prefill = {10, 5, 2e9, 20};
    s.decode = {4, 2.5, 3e9, 10};
    s.kv_bytes = 77;
    return s;
}

TEST(Frontiers, BecomeCsvWithTheKnownColumnsFirst) {
    const std::string csv = csv_of({some_speed(100)});
    EXPECT_THAT(csv, StartsWith("ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes,"));
    EXPECT_THAT(csv, HasSubstr("\n100,10,5.00,4,2.50,77,2.00,20.00,3.00,10.00\n"));
}

// Pixels of the dots in the drawing, in its order.
std::vector<std::pair<double, double>> dots_of(const std::string& svg) {
    std::vector<std::pair<double, double>> dots;
    for (std::size_t at = svg.find("<circle cx="); at != std::string::npos;
         at = svg.find("<circle cx=", at + 1)) {
        double x = 0, y = 0;
        std::sscanf(svg.c_str() + at, "<circle cx=\"%lf\" cy=\"%lf\"", &x, &y);
        dots.emplace_back(x, y);
    }
    return dots;
}

TEST(Chart, PutsPointsInProportion) {
    const std::vector<Panel> panels = {{"p", {{"s", "red", false, {{0, 0}, {50, 10}, {100, 20}}}}}};
    const auto dots = dots_of(draw_chart("t", "x", panels));
    ASSERT_EQ(dots.size(), 3);
    EXPECT_NEAR(dots[1].first - dots[0].first, dots[2].first - dots[1].first, 0.2);
    EXPECT_NEAR(dots[0].second - dots[1].second, dots[1].second - dots[2].second, 0.2);
    EXPECT_GT(dots[0].second, dots[2].second);  // up is less in SVG
}

TEST(Chart, TakesNoPointsAndAnyNames) {
    const std::vector<Panel> empty = {{"p", {{"s", "red", false, {}}, {"zero", "red", true, {{0, 0}}}}}};
    EXPECT_THAT(draw_chart("a < b & c", "x", empty), HasSubstr("a &lt; b &amp; c"));
    EXPECT_THAT(svg_of({some_speed(1)}, "t"), StartsWith("<svg "));
}

test::ProgramResult bench(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"-m", DS4_MODELS "/ds4-tiny.gguf", "-t", "2", "--read-mb", "16"});
    return test::run_program("ds4-bench", arguments);
}

TEST(Bench, MeasuresEveryFrontier) {
    const test::TemporaryDirectory dir;
    const auto r = bench({"--ctx-start", "40", "--ctx-max", "100", "--step-incr", "40", "--gen-tokens", "3",
                          "--prefill-chunk", "32", "--csv", dir / "a.csv", "--svg", dir / "a.svg"});
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("ceiling"));
    const std::string csv = test::read_file(dir / "a.csv");
    EXPECT_THAT(csv, HasSubstr("\n40,40,"));
    EXPECT_THAT(csv, HasSubstr("\n80,40,"));
    EXPECT_THAT(csv, HasSubstr("\n100,20,"));
    EXPECT_EQ(std::ranges::count(csv, '\n'), 4);
    EXPECT_EQ(dots_of(test::read_file(dir / "a.svg")).size(), 6);
}

TEST(Bench, ProfilesBothPhases) {
    const auto r = bench({"--ctx-start", "40", "--ctx-max", "40", "--gen-tokens", "3", "--profile"});
    EXPECT_EQ(r.status, 0) << r.err;
    for (const char* part : {"prefill of 40 tokens", "decode of 3 tokens", "routed experts", "CSA layers",
                             "outside of operations", "all operations"}) {
        EXPECT_THAT(r.out, HasSubstr(part));
    }
}

TEST(Bench, RunsATextThatIsLongEnough) {
    const test::TemporaryDirectory dir;
    test::write_file(dir / "short.txt", "too short");
    const auto r = bench({"--ctx-start", "40", "--ctx-max", "40", "--prompt-file", dir / "short.txt"});
    EXPECT_EQ(r.status, 1);
    EXPECT_THAT(r.err, HasSubstr("short.txt: has "));
    EXPECT_THAT(r.err, HasSubstr("--ctx-max 40"));
}

TEST(Bench, RefusesContextsThatAreNone) {
    EXPECT_EQ(bench({"--ctx-start", "50", "--ctx-max", "40"}).status, 1);
    EXPECT_THAT(bench({"--ctx-max", "100000000"}).err, HasSubstr("more than the model's"));
    EXPECT_EQ(bench({"--step-mul", "0.5"}).status, 2);
    EXPECT_EQ(bench({"--ctx-start", "0"}).status, 2);
}

TEST(Bench, PrintsTheRoofline) {
    const auto r = bench({"roofline", "--ctx", "100", "--chunk", "64"});
    EXPECT_EQ(r.status, 0) << r.err;
    for (const char* part : {"reading memory", "int8 products", "decode of one token after 100",
                             "prefill of 64 tokens after 100", "attention projections", "ceiling"}) {
        EXPECT_THAT(r.out, HasSubstr(part));
    }
    EXPECT_THAT(bench({"roofline", "--ctx", "100000000"}).err, HasSubstr("more than the model's"));
}

}  // namespace
}  // namespace ds4::bench
