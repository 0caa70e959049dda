#include "backend/reference/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>

#include "backend/cpu/cpu_backend.h"
#include "backend/device.h"
#include "backend/session.h"

// Details of model.md that a comparison of two backends cannot see if both have them wrong: cases small
// enough to be worked out by hand. The reference and the CPU backend both stand the test.
namespace ds4::test {
namespace {

struct Maker {
    std::string name;
    std::function<std::unique_ptr<Backend>()> make;
};

void PrintTo(const Maker& maker, std::ostream* out) {
    *out << maker.name;
}

class ByHand : public testing::TestWithParam<Maker> {
  protected:
    std::unique_ptr<Backend> backend_ = GetParam().make();
    Device device_{*backend_};
};

INSTANTIATE_TEST_SUITE_P(Backends, ByHand,
                         testing::Values(Maker{"reference", make_reference_backend},
                                         Maker{"cpu", [] { return make_cpu_backend(2); }}),
                         [](const testing::TestParamInfo<Maker>& maker) { return maker.param.name; });

// f32 results of a few operations on numbers near one.
constexpr float kNear = 2e-6F;

double sigmoid(double x) {
    return 1 / (1 + std::exp(-x));
}

// ---- hyper-connections (model.md 4.2)

// Two streams of width 1 and fn = 0, so that every mix is its base.
struct Site {
    std::vector<float> x, post, comb;
};

Site collapse(Device& device, const std::vector<float>& base, int iterations, float eps,
              const std::vector<float>& streams) {
    HyperConnection hc;
    hc.fn = device.matrix(std::vector<float>(16, 0.0F), 2);
    hc.base = device.vector(base);
    hc.scale = device.vector({1, 1, 1});
    hc.n_streams = 2;
    hc.sinkhorn_iterations = iterations;
    hc.eps = eps;
    hc.rms_eps = 1e-6F;
    const Rows s = device.rows(streams, 2);
    const Rows x = device.result(1, 1);
    const Rows post = device.result(1, 2);
    const Rows comb = device.result(1, 4);
    device.backend().hc_collapse(hc, s, x, post, comb);
    return {device.download(x), device.download(post), device.download(comb)};
}

// base: pre 0 and ln 3, post 0 and ln 3, comb rows (0, ln 3) and (0, 0). sigmoid(0) = 1/2, sigmoid(ln 3) =
// 3/4.
const float kLn3 = std::log(3.0F);
const std::vector<float> kBase{0, kLn3, 0, kLn3, 0, kLn3, 0, 0};

TEST_P(ByHand, PreHasEpsAndPostHasNone) {
    // A large eps, so that its place shows.
    const Site site = collapse(device_, kBase, 1, 0.125F, {8, 16});
    EXPECT_NEAR(site.x[0], (0.5 + 0.125) * 8 + (0.75 + 0.125) * 16, 16 * kNear);
    EXPECT_NEAR(site.post[0], 2 * 0.5, kNear);
    EXPECT_NEAR(site.post[1], 2 * 0.75, kNear);
}

TEST_P(ByHand, OneIterationNormalisesColumnsOnly) {
    // Softmax rows: (1/4, 3/4) and (1/2, 1/2). Columns sum to 3/4 and 5/4.
    const Site site = collapse(device_, kBase, 1, 0, {1, 1});
    const double expected[] = {1.0 / 3, 3.0 / 5, 2.0 / 3, 2.0 / 5};
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(site.comb[i], expected[i], kNear) << i;
}

TEST_P(ByHand, SecondIterationIsRowsThenColumns) {
    // From above: rows sum to 14/15 and 16/15, which gives (5/14, 9/14) and (5/8, 3/8); columns 55/56 and
    // 57/56.
    const Site site = collapse(device_, kBase, 2, 0, {1, 1});
    const double expected[] = {20.0 / 55, 36.0 / 57, 35.0 / 55, 21.0 / 57};
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(site.comb[i], expected[i], kNear) << i;
}

TEST_P(ByHand, CombEpsOnEveryEntryAndInEveryDenominator) {
    // eps 1/4: entries (1/2, 1) and (3/4, 3/4); columns divide by 5/4 + 1/4 and 7/4 + 1/4.
    const Site one = collapse(device_, kBase, 1, 0.25F, {1, 1});
    const double after_one[] = {1.0 / 3, 1.0 / 2, 1.0 / 2, 3.0 / 8};
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(one.comb[i], after_one[i], kNear) << i;
    // Rows divide by 5/6 + 1/4 = 13/12 and 7/8 + 1/4 = 9/8: (4/13, 6/13) and (4/9, 1/3); columns by
    // 88/117 + 1/4 = 469/468 and 31/39 + 1/4 = 163/156.
    const Site two = collapse(device_, kBase, 2, 0.25F, {1, 1});
    const double after_two[] = {4.0 / 13 * 468 / 469, 6.0 / 13 * 156 / 163, 4.0 / 9 * 468 / 469,
                                1.0 / 3 * 156 / 163};
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(two.comb[i], after_two[i], kNear) << i;
}

TEST_P(ByHand, ManyIterationsConverge) {
    // Sinkhorn's limit for two streams keeps the cross ratio a d / (b c) = 1/3 and has equal diagonal entries
    // t: t^2 / (1 - t)^2 = 1/3.
    const Site site = collapse(device_, kBase, 20, 0, {1, 1});
    const double t = 1 / (1 + std::sqrt(3.0));
    const double expected[] = {t, 1 - t, 1 - t, t};
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(site.comb[i], expected[i], kNear) << i;
}

TEST_P(ByHand, MixesUseFnTheNormAndTheirScales) {
    HyperConnection hc;
    // Streams (3, 4): their root mean square is 12.5^0.5, and rms_eps = 12.5 halves its square.
    std::vector<float> fn(16, 0.0F);
    fn[0] = 1;          // pre_0 sees stream 0
    fn[2 * 2 + 1] = 1;  // post_0 sees stream 1
    fn[4 * 2 + 0] = 1;  // comb[0][0] sees stream 0
    hc.fn = device_.matrix(fn, 2);
    hc.base = device_.vector({0.5F, 0, 0.25F, 0, 0, 0, 0, 0});
    hc.scale = device_.vector({2, 3, 5});
    hc.n_streams = 2;
    hc.sinkhorn_iterations = 1;
    hc.rms_eps = 12.5F;
    const Rows streams = device_.rows({3, 4}, 2);
    const Rows x = device_.result(1, 1);
    const Rows post = device_.result(1, 2);
    const Rows comb = device_.result(1, 4);
    backend_->hc_collapse(hc, streams, x, post, comb);
    const double rho = 1.0 / 5;  // 1 / sqrt(12.5 + 12.5)
    EXPECT_NEAR(device_.download(x)[0], sigmoid(3 * rho * 2 + 0.5) * 3 + 0.5 * 4, 8 * kNear);
    EXPECT_NEAR(device_.download(post)[0], 2 * sigmoid(4 * rho * 3 + 0.25), kNear);
    const double first = sigmoid(3 * rho * 5);  // a softmax over (z, 0)
    EXPECT_NEAR(device_.download(comb)[0], first / (first + 0.5), kNear);
    EXPECT_NEAR(device_.download(comb)[1], (1 - first) / (1 - first + 0.5), kNear);
}

TEST_P(ByHand, ExpandAppliesCombTransposed) {
    const Rows y = device_.rows({10}, 1);
    const Rows post = device_.rows({1, 2}, 2);
    const Rows comb = device_.rows({1, 2, 3, 4}, 4);  // comb[0] = (1, 2), comb[1] = (3, 4)
    const Rows streams = device_.rows({100, 1000}, 2);
    backend_->hc_expand(y, post, comb, streams);
    EXPECT_THAT(device_.download(streams),
                testing::ElementsAre(10 + 1 * 100 + 3 * 1000, 20 + 2 * 100 + 4 * 1000));
}

TEST_P(ByHand, HeadHasEpsAndOneScale) {
    HyperConnection hc;
    hc.fn = device_.matrix({0, 0, 1, 0}, 2);
    hc.base = device_.vector({0, 0.5F});
    hc.scale = device_.vector({2});
    hc.n_streams = 2;
    hc.eps = 0.125F;
    hc.rms_eps = 12.5F;
    const Rows x = device_.result(1, 1);
    backend_->hc_head(hc, device_.rows({3, 4}, 2), x);
    EXPECT_NEAR(device_.download(x)[0], (0.5 + 0.125) * 3 + (sigmoid(3.0 / 5 * 2 + 0.5) + 0.125) * 4,
                8 * kNear);
}

// ---- norm, rope, roundings

TEST_P(ByHand, RmsNormEpsIsInsideTheRoot) {
    const Rows x = device_.rows({3, 4}, 2);
    backend_->rms_norm(x, device_.vector({10, 100}), 2, 12.5F, x);  // 1 / sqrt(12.5 + 12.5) = 1/5
    EXPECT_THAT(device_.download(x), testing::ElementsAre(testing::FloatEq(6), testing::FloatEq(80)));
}

TEST_P(ByHand, RopeTurnsInterleavedPairsOfTheTail) {
    const float frequency[] = {std::acos(0.0F), 0};  // a quarter turn per position, and none
    const Rows x = device_.rows({9, 1, 2, 3, 4, 9, 5, 6, 7, 8}, 10);
    const std::vector<std::int32_t> positions{1};
    backend_->rope({frequency, 4}, positions, 5, false, x);
    EXPECT_THAT(device_.download(x), testing::Pointwise(testing::FloatNear(1e-6F),
                                                        std::vector<float>{9, -2, 1, 3, 4, 9, -6, 5, 7, 8}));
    backend_->rope({frequency, 4}, positions, 5, true, x);
    EXPECT_THAT(device_.download(x), testing::Pointwise(testing::FloatNear(1e-6F),
                                                        std::vector<float>{9, 1, 2, 3, 4, 9, 5, 6, 7, 8}));
}

TEST_P(ByHand, RopeReducesLargeAngles) {
    const float frequency[] = {1};
    const Rows x = device_.rows({1, 0}, 2);
    backend_->rope({frequency, 2}, std::vector<std::int32_t>{1 << 20}, 2, false, x);
    EXPECT_NEAR(device_.download(x)[0], std::cos(0x1p20), 1e-7);
    EXPECT_NEAR(device_.download(x)[1], std::sin(0x1p20), 1e-7);
}

TEST_P(ByHand, RoundFp8KeepsTheSignOfZeroAndTheTail) {
    std::vector<float> row(66, 0.0F);
    row[0] = 448;
    row[1] = -1e-6F;  // below half of the smallest step 2^-9
    row[2] = 17;      // between 16 and 18: to the even 16
    row[64] = 1.2345F;
    const Rows x = device_.rows(row, 66);
    backend_->round_fp8(x, 2, false);
    const std::vector<float> out = device_.download(x);
    EXPECT_EQ(out[0], 448);
    EXPECT_EQ(out[1], 0);
    EXPECT_TRUE(std::signbit(out[1]));
    EXPECT_EQ(out[2], 16);
    EXPECT_EQ(out[64], 1.2345F);
    backend_->round_fp8(x, 2, true);
    EXPECT_EQ(device_.download(x)[64], 1.234375F);
}

// ---- router (model.md 10)

struct Routed {
    std::vector<std::int32_t> expert;
    std::vector<float> weight;
};

Routed route(Device& device, const Router& router, const std::vector<float>& logits, TokenId token = 0) {
    const auto n = static_cast<std::size_t>(router.n_used);
    const Routing out{device.allocate<std::int32_t>(n), device.allocate<float>(n), router.n_used};
    device.backend().route(router, std::vector<TokenId>{token},
                           device.rows(logits, static_cast<std::int64_t>(logits.size())), out);
    return {device.download(out.expert, router.n_used), device.download(out.weight, router.n_used)};
}

Router top(std::int64_t n_used) {
    Router router;
    router.n_used = n_used;
    router.weight_scale = 1.5F;
    return router;
}

TEST_P(ByHand, RouterTiesGoToTheLowerExpert) {
    EXPECT_THAT(route(device_, top(3), {1, 2, 1, 2, 1}).expert, testing::ElementsAre(1, 3, 0));
}

TEST_P(ByHand, RouterBiasChoosesButDoesNotWeigh) {
    Router router = top(2);
    router.bias = device_.vector({0, 0, 100});
    // softplus(25) counts as 25 and softplus(36) as 36, whose roots are 5 and 6.
    const Routed out = route(device_, router, {25, 24, 36});
    EXPECT_THAT(out.expert, testing::ElementsAre(2, 0));
    EXPECT_NEAR(out.weight[0], 1.5 * 6 / 11, kNear);
    EXPECT_NEAR(out.weight[1], 1.5 * 5 / 11, kNear);
}

TEST_P(ByHand, RouterAffinityIsTheRootOfSoftplus) {
    Router router = top(2);
    router.normalise = false;
    const Routed out = route(device_, router, {0, std::log(std::exp(4.0F) - 1)});
    EXPECT_NEAR(out.weight[0], 1.5 * 2, kNear);  // softplus is 4
    EXPECT_NEAR(out.weight[1], 1.5 * std::sqrt(std::log(2.0)), kNear);
}

TEST_P(ByHand, RouterFloorOfTheDenominator) {
    // softplus(z) is e^z down here: affinities e^-15 = 3.1e-7, whose sum is below 2^-14.
    const Routed out = route(device_, top(2), {-30, -30});
    for (const float w : out.weight) EXPECT_NEAR(w, 1.5 * std::exp(-15.0) * 16384, 1e-8);
}

TEST_P(ByHand, HashRouterTakesTheTokensExperts) {
    const std::vector<std::int32_t> hash{0, 1, 2, 0};
    Router router = top(2);
    router.hash = hash.data();
    const Routed out = route(device_, router, {25, 100, 36}, 1);
    EXPECT_THAT(out.expert, testing::ElementsAre(2, 0));
    EXPECT_NEAR(out.weight[0], 1.5 * 6 / 11, kNear);
}

// ---- experts

TEST_P(ByHand, SwigluClampsTheGateFromAboveOnly) {
    const Rows gate = device_.rows({100, -100, 1, 1}, 4);
    backend_->swiglu(gate, device_.rows({1, 1, 100, -100}, 4), 10);
    const std::vector<float> out = device_.download(gate);
    EXPECT_NEAR(out[0], 10 * sigmoid(10), 10 * kNear);
    EXPECT_NEAR(out[1], 0, 1e-30);  // -100 * sigmoid(-100); a lower clamp would give -4.5e-4
    EXPECT_NEAR(out[2], 10 * sigmoid(1), 10 * kNear);
    EXPECT_NEAR(out[3], -10 * sigmoid(1), 10 * kNear);
}

TEST_P(ByHand, SwigluLimitOfAMillionthMeansNone) {
    const Rows gate = device_.rows({100}, 1);
    backend_->swiglu(gate, device_.rows({100}, 1), 1e-6F);
    EXPECT_EQ(device_.download(gate)[0], 10000);
}

// ---- attention and the indexer

TEST_P(ByHand, SinkTakesItsShareAndHasNoValue) {
    const LayerShape shape{0, 4, 0, 4};
    Random random(1);
    const TestSession session(device_, random, shape, 0, 1);
    const TestBatch batch({{0, 1}});
    const std::vector<LayerHistory> history{session.history()};
    // Score 2 * ln 3 * 4^-0.5 = ln 3 against the raw sink 0: the key weighs 3/4.
    const Rows out = device_.result(1, 4);
    backend_->attention({1, 4, 4, 0, device_.vector({0})}, batch.rows(), history, {},
                        device_.rows({2 * kLn3, 0, 0, 0}, 4), device_.rows({1, 2, 3, 4}, 4), out);
    EXPECT_THAT(device_.download(out),
                testing::Pointwise(testing::FloatNear(4 * kNear), std::vector<float>{0.75F, 1.5F, 2.25F, 3}));
}

TEST_P(ByHand, WindowIncludesTheTokenItself) {
    const LayerShape shape{0, 1, 0, 2};
    Random random(1);
    const TestSession session(device_, random, shape, 0, 3);
    const TestBatch batch({{0, 3}});
    const std::vector<LayerHistory> history{session.history()};
    const Rows out = device_.result(3, 1);
    // q = 0: every visible key weighs the same as the sink.
    backend_->attention({1, 1, 2, 0, device_.vector({0})}, batch.rows(), history, {},
                        device_.rows({0, 0, 0}, 1), device_.rows({3, 6, 12}, 1), out);
    EXPECT_THAT(device_.download(out),
                testing::Pointwise(testing::FloatNear(10 * kNear), std::vector<float>{1.5F, 3, 6}));
}

TEST_P(ByHand, IndexerReluComesBeforeTheWeight) {
    const LayerShape shape{4, 4, 1, 4};
    Random random(1);
    const TestSession session(device_, random, shape, 15, 1);
    const std::vector<LayerHistory> history{session.history()};
    const float keys[] = {5, -5, 1, -1};
    for (std::int64_t i = 0; i < 4; ++i) TestSession::put_row(device_, history[0].indexer, i, {keys[i]});
    const TestBatch batch({{15, 1}});
    const auto selected = [&](float weight, std::int64_t capacity) {
        const Selection selection{device_.allocate<std::int32_t>(4), device_.allocate<std::int32_t>(1),
                                  capacity};
        backend_->select_rows(batch.rows(), history, device_.rows({1}, 1), device_.rows({weight}, 1), 1,
                              selection);
        return device_.download(selection.rows, capacity);
    };
    // Weight 1: scores 5, 0, 1, 0; of the equal ones the lower row. Weight -1: -5, 0, -1, 0.
    EXPECT_THAT(selected(1, 3), testing::ElementsAre(0, 1, 2));
    EXPECT_THAT(selected(-1, 2), testing::ElementsAre(1, 3));
    EXPECT_THAT(selected(-1, 1), testing::ElementsAre(1));
    EXPECT_THAT(selected(0, 2), testing::ElementsAre(0, 1));  // 0 and -0 are equal
}

// ---- compressor (model.md 7)

// One channel, no rotation: a window's row is the sign of its pooled value times the norm weight, so the
// norm's eps is made large enough to leave the value visible.
class Pooling {
  public:
    Pooling(Device& device, std::int64_t ratio, std::vector<float> ape)
        : device_(device), shape_{ratio, 1, 1, 4} {
        Random random(1);
        session_ = std::make_unique<TestSession>(device, random, shape_, 0, 3 * ratio);
        compressor_.ratio = ratio;
        compressor_.dim = 1;
        compressor_.ape = device.matrix(ape, shape_.width(1));
        compressor_.norm = device.vector({kEps});
        compressor_.rms_eps = kEps * kEps;
        compressor_.rounding = false;
    }

    void feed(std::int64_t start, const std::vector<float>& value, const std::vector<float>& score) {
        const std::int64_t width = shape_.width(1);
        const TestBatch batch({{start, static_cast<std::int64_t>(value.size()) / width}});
        const std::vector<LayerHistory> history{session_->history()};
        device_.backend().compress(compressor_, batch.rows(), history, false, device_.rows(value, width),
                                   device_.rows(score, width));
    }

    // kEps * v / sqrt(v^2 + kEps^2) is v to eight digits for v below one.
    float row(std::int64_t i) const { return session_->row(session_->history().compressed, i)[0]; }
    std::vector<float> frontier() const { return session_->frontier(false); }

  private:
    static constexpr float kEps = 1e4F;
    Device& device_;
    LayerShape shape_;
    std::unique_ptr<TestSession> session_;
    Compressor compressor_;
};

TEST_P(ByHand, PlainPoolingWeighsByScoreAndApe) {
    std::vector<float> ape(128, 0.0F);
    ape[1] = kLn3;
    Pooling pooling(device_, 128, ape);
    // Places 0 and 1 count, the others lie far below.
    std::vector<float> value(128, 7.0F), score(128, -200.0F);
    value[0] = 0.125F;
    value[1] = 0.25F;
    score[0] = score[1] = 0;
    pooling.feed(0, value, score);
    EXPECT_NEAR(pooling.row(0), (0.125 + 3 * 0.25) / 4, kNear);
}

TEST_P(ByHand, OverlappingPoolingUsesTheHalvesOfTwoWindows) {
    Pooling pooling(device_, 4, std::vector<float>(8, 0.0F));
    constexpr float kFar = -200;
    // Per token: (first half, second half). The first window has no predecessor: its second halves alone
    // count.
    pooling.feed(0, {0.5F, 0.125F, 9, 9, 9, 9, 9, 9}, {0, 0, kFar, kFar, kFar, kFar, kFar, kFar});
    EXPECT_NEAR(pooling.row(0), 0.125, kNear);
    // The second sees the first's first halves (score 0) and its own second halves (score ln 3).
    pooling.feed(4, {9, 0.25F, 9, 9, 9, 9, 9, 9}, {kFar, kLn3, kFar, kFar, kFar, kFar, kFar, kFar});
    EXPECT_NEAR(pooling.row(1), (0.5 + 3 * 0.25) / 4, kNear);
}

TEST_P(ByHand, FrontierHoldsTheLastClosedAndTheOpenWindow) {
    Pooling pooling(device_, 4, {10, 20, 10, 20, 10, 20, 10, 20});
    pooling.feed(0, {1, -1, 2, -2, 3, -3, 4, -4, 5, -5}, {0, 0, 1, 1, 2, 2, 3, 3, 4, 4});
    const float kNone = -std::numeric_limits<float>::infinity();
    EXPECT_THAT(pooling.frontier(), testing::ElementsAre(1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 0, 0, 0, 0, 0,
                                                         0,  // values, then scores
                                                         10, 20, 11, 21, 12, 22, 13, 23, 14, 24, kNone, kNone,
                                                         kNone, kNone, kNone, kNone));
}

}  // namespace
}  // namespace ds4::test
