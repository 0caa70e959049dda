#include <gtest/gtest.h>

#include <bit>
#include <deque>
#include <memory>

#include "backend/cpu/cpu_backend.h"
#include "backend/device.h"
#include "backend/session.h"

// A token's bits depend on nothing but its own past: not on its neighbours in the batch, the chunks of the
// prefill, the number of threads.
namespace ds4::test {
namespace {

using quant::Type;

constexpr int kThreadCounts[] = {1, 2, 4};

void expect_same_bits(const std::vector<float>& actual, const std::vector<float>& expected,
                      const std::string& where) {
    ASSERT_EQ(actual.size(), expected.size()) << where;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(actual[i]), std::bit_cast<std::uint32_t>(expected[i]))
            << where << "[" << i << "] is " << actual[i] << ", not " << expected[i];
    }
}

// ---- operations on rows

// Runs an operation on rows [first, first + n) of its inputs, which are always the same; returns what it
// wrote.
struct RowOp {
    std::string name;
    std::int64_t n_rows;
    std::vector<float> (*run)(Device& device, std::int64_t first, std::int64_t n);
};

constexpr std::int64_t kRows = 9;

// Rows [first, first + n) of kRows random ones.
Rows some(Device& device, Random& random, std::int64_t width, std::int64_t first, std::int64_t n,
          std::int64_t n_rows = kRows) {
    return device.rows(random.gaussian(n_rows * width), width).slice(first, n);
}

template <Type type>
std::vector<float> matmul(Device& device, std::int64_t first, std::int64_t n) {
    Random random(1);
    const Matrix w = device.matrix(random, type, 70, 512);
    const Rows y = device.result(n, 70);
    device.backend().matmul(w, some(device, random, 512, first, n), y);
    return device.download(y);
}

std::vector<float> grouped_matmul(Device& device, std::int64_t first, std::int64_t n) {
    Random random(2);
    const Matrix w = device.matrix(random, Type::q8_0, 40, 64);
    const Rows y = device.result(n, 40);
    device.backend().grouped_matmul(w, 4, some(device, random, 256, first, n), y);
    return device.download(y);
}

std::vector<float> rms_norm(Device& device, std::int64_t first, std::int64_t n) {
    Random random(3);
    const Rows x = some(device, random, 333, first, n);
    device.backend().rms_norm(x, device.vector(random.gaussian(333)), 333, 1e-6F, x);
    return device.download(x);
}

std::vector<float> hyper_connection(Device& device, std::int64_t first, std::int64_t n) {
    Random random(4);
    HyperConnection hc;
    hc.fn = device.matrix(random, Type::f16, 24, 4 * 75);
    hc.base = device.vector(random.gaussian(24));
    hc.scale = device.vector(random.gaussian(3));
    hc.n_streams = 4;
    hc.sinkhorn_iterations = 20;
    hc.eps = 1e-6F;
    const Rows streams = some(device, random, 300, first, n);
    const Rows y = some(device, random, 75, first, n);
    const Rows x = device.result(n, 75);
    const Rows post = device.result(n, 4);
    const Rows comb = device.result(n, 16);
    device.backend().hc_collapse(hc, streams, x, post, comb);
    device.backend().hc_expand(y, post, comb, streams);
    device.backend().add(x, streams);
    return device.download(streams);
}

std::vector<float> rotate_and_round(Device& device, std::int64_t first, std::int64_t n) {
    Random random(5);
    const std::vector<float> frequency = random.gaussian(16);
    const std::vector<std::int32_t> positions{1, 5, 70, 999, 1000, 65536, 65537, 1000000, 1048575};
    const Rows x = some(device, random, 256, first, n);
    device.backend().rope({frequency.data(), 32}, std::span(positions).subspan(first, n), 64, false, x);
    device.backend().round_hadamard_fp4(x, 64);
    device.backend().rope({frequency.data(), 32}, std::span(positions).subspan(first, n), 64, true, x);
    device.backend().round_fp8(x, 64, true);
    return device.download(x);
}

std::vector<float> swiglu(Device& device, std::int64_t first, std::int64_t n) {
    Random random(6);
    const Rows gate = some(device, random, 333, first, n);
    device.backend().swiglu(gate, some(device, random, 333, first, n), 10);
    return device.download(gate);
}

// Router and experts; the router's choice makes the number of rows per expert depend on the batch.
template <Type gate_type, Type down_type>
std::vector<float> mixture(Device& device, std::int64_t first, std::int64_t n, std::int64_t n_rows) {
    constexpr std::int64_t kExperts = 7, kUsed = 3;
    Random random(7);
    const Experts experts{device.matrix(random, gate_type, 256, 256, kExperts),
                          device.matrix(random, gate_type, 256, 256, kExperts),
                          device.matrix(random, down_type, 256, 256, kExperts), 10};
    Router router;
    router.n_used = kUsed;
    const Rows logits = some(device, random, kExperts, first, n, n_rows);
    const Rows x = some(device, random, 256, first, n, n_rows);
    const Routing routing{device.allocate<std::int32_t>(n * kUsed), device.allocate<float>(n * kUsed), kUsed};
    const Rows y = device.result(n, 256);
    device.backend().route(router, std::vector<TokenId>(n), logits, routing);
    device.backend().routed_experts(experts, routing, x, y);
    return device.download(y);
}

const RowOp kRowOps[] = {
    {"matmul_F32", kRows, matmul<Type::f32>},
    {"matmul_BF16", kRows, matmul<Type::bf16>},
    {"matmul_Q8_0", kRows, matmul<Type::q8_0>},
    {"matmul_Q2_K", kRows, matmul<Type::q2_k>},
    {"matmul_Q4_K", kRows, matmul<Type::q4_k>},
    {"matmul_IQ2_XXS", kRows, matmul<Type::iq2_xxs>},
    {"matmul_MXFP4", kRows, matmul<Type::mxfp4>},
    {"grouped_matmul", kRows, grouped_matmul},
    {"rms_norm", kRows, rms_norm},
    {"hyper_connection", kRows, hyper_connection},
    {"rotate_and_round", kRows, rotate_and_round},
    {"swiglu", kRows, swiglu},
    {"experts_F32", kRows,
     [](Device& d, std::int64_t first, std::int64_t n) {
         return mixture<Type::f32, Type::f32>(d, first, n, kRows);
     }},
    {"experts_flash", kRows,
     [](Device& d, std::int64_t first, std::int64_t n) {
         return mixture<Type::iq2_xxs, Type::q2_k>(d, first, n, kRows);
     }},
    {"experts_mixed", kRows,
     [](Device& d, std::int64_t first, std::int64_t n) {
         return mixture<Type::q4_k, Type::q8_0>(d, first, n, kRows);
     }},
};

void PrintTo(const RowOp& op, std::ostream* out) {
    *out << op.name;
}

class RowInvariance : public testing::TestWithParam<RowOp> {};

TEST_P(RowInvariance, BatchSizeAndThreads) {
    const RowOp& op = GetParam();
    std::vector<float> expected;
    for (const int n_threads : kThreadCounts) {
        const std::unique_ptr<Backend> backend = make_cpu_backend(n_threads);
        for (std::int64_t batch = op.n_rows; batch >= 1; --batch) {
            std::vector<float> actual;
            for (std::int64_t first = 0; first < op.n_rows; first += batch) {
                Device device(*backend);
                const std::vector<float> part = op.run(device, first, std::min(batch, op.n_rows - first));
                actual.insert(actual.end(), part.begin(), part.end());
            }
            if (expected.empty()) expected = actual;
            expect_same_bits(actual, expected,
                             std::to_string(batch) + " rows, " + std::to_string(n_threads) + " threads");
            if (HasFatalFailure()) return;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Cpu, RowInvariance, testing::ValuesIn(kRowOps),
                         [](const testing::TestParamInfo<RowOp>& op) { return op.param.name; });

// More rows than one block of routed_experts.
TEST(BlockInvariance, ExpertsAcrossBlocks) {
    constexpr std::int64_t kMany = 530;
    const auto run = [](int n_threads, std::int64_t first, std::int64_t n) {
        const std::unique_ptr<Backend> backend = make_cpu_backend(n_threads);
        Device device(*backend);
        return mixture<Type::q8_0, Type::q8_0>(device, first, n, kMany);
    };
    std::vector<float> actual = run(2, 0, 5);
    const std::vector<float> rest = run(2, 5, kMany - 5);
    actual.insert(actual.end(), rest.begin(), rest.end());
    expect_same_bits(actual, run(1, 0, kMany), "5 rows and the rest");
}

// ---- operations with a history

constexpr std::int64_t kHeads = 6, kHeadDim = 96, kIndexHeads = 5, kIndexDim = 32, kRopeDims = 32;
constexpr std::int64_t kTokens = 300;

// A text: what the projections of a layer would give for each of its tokens.
struct Text {
    explicit Text(std::uint32_t seed) {
        Random random(seed);
        value = random.gaussian(kTokens * 2 * kHeadDim);
        score = random.gaussian(kTokens * 2 * kHeadDim, 3);
        plain_value = random.gaussian(kTokens * kHeadDim);
        plain_score = random.gaussian(kTokens * kHeadDim, 3);
        index_value = random.gaussian(kTokens * 2 * kIndexDim);
        index_score = random.gaussian(kTokens * 2 * kIndexDim, 3);
        q = random.gaussian(kTokens * kHeads * kHeadDim, 2);
        kv = random.gaussian(kTokens * kHeadDim);
        index_q = random.gaussian(kTokens * kIndexHeads * kIndexDim);
        index_weight = random.gaussian(kTokens * kIndexHeads);
    }
    std::vector<float> value, score;              // ratio 4: two halves
    std::vector<float> plain_value, plain_score;  // ratio 128
    std::vector<float> index_value, index_score, index_q, index_weight;
    std::vector<float> q, kv;
};

// One layer that texts are fed to in steps.
class Layer {
  public:
    Layer(Device& device, std::int64_t ratio) : device_(device), shape_{ratio, kHeadDim, kIndexDim, 20} {
        Random random(99);
        frequency_ = random.gaussian(kRopeDims / 2);
        sinks_ = device.vector(random.gaussian(kHeads));
        if (ratio == 0) return;
        main_ = compressor(random, kHeadDim, Compressor::Finish::fp8);
        if (ratio == 4) indexer_ = compressor(random, kIndexDim, Compressor::Finish::hadamard_fp4);
    }

    void begin(const Text& text) {
        Random random(1);
        sessions_.emplace_back(device_, random, shape_, 0, kTokens);
        texts_.push_back(&text);
        fed_.push_back(0);
        out_.emplace_back();
    }

    // The next n[i] tokens of session i, as one batch.
    void step(const std::vector<std::int64_t>& n) {
        std::vector<std::pair<std::int64_t, std::int64_t>> segments;
        std::vector<LayerHistory> history;
        std::vector<std::size_t> who;
        for (std::size_t s = 0; s < n.size(); ++s) {
            if (n[s] == 0) continue;
            segments.emplace_back(fed_[s], n[s]);
            history.push_back(sessions_[s].history());
            who.push_back(s);
        }
        const TestBatch batch(segments);
        const auto rows = [&](std::vector<float> Text::*what) {
            std::vector<float> all;
            std::int64_t width = 0;
            for (std::size_t i = 0; i < who.size(); ++i) {
                const std::vector<float>& text = texts_[who[i]]->*what;
                width = static_cast<std::int64_t>(text.size()) / kTokens;
                all.insert(all.end(), text.begin() + segments[i].first * width,
                           text.begin() + (segments[i].first + segments[i].second) * width);
            }
            return device_.rows(all, width);
        };
        run(batch, history, rows);
        for (std::size_t i = 0; i < who.size(); ++i) {
            fed_[who[i]] += segments[i].second;
            const Segment& segment = batch.rows().segments[i];
            const std::vector<float> part =
                device_.download(result_.slice(segment.first_row, segment.n_rows));
            out_[who[i]].insert(out_[who[i]].end(), part.begin(), part.end());
        }
    }

    // The outputs of all tokens and the state they left.
    std::vector<float> everything(std::size_t s) const {
        std::vector<float> all = out_[s];
        const auto append = [&](const std::vector<float>& more) {
            all.insert(all.end(), more.begin(), more.end());
        };
        append(sessions_[s].window());
        for (const bool of_indexer : {false, true}) {
            if (shape_.ratio == 0 || (of_indexer && shape_.ratio != 4)) continue;
            append(sessions_[s].rows(of_indexer));
            append(sessions_[s].frontier(of_indexer));
        }
        return all;
    }

  private:
    Compressor compressor(Random& random, std::int64_t dim, Compressor::Finish finish) {
        Compressor c;
        c.ratio = shape_.ratio;
        c.dim = dim;
        c.ape =
            device_.matrix(random, Type::f16, shape_.ratio, shape_.width(dim), 1, Backend::MatrixUse::rows);
        c.norm = device_.vector(random.gaussian(dim));
        c.rope = {frequency_.data(), finish == Compressor::Finish::fp8 ? kRopeDims : kRopeDims / 2};
        c.rms_eps = 1e-6F;
        c.finish = finish;
        return c;
    }

    template <class F>
    void run(const TestBatch& batch, const std::vector<LayerHistory>& history, const F& rows) {
        Backend& backend = device_.backend();
        constexpr std::int64_t kCapacity = 9;
        Selection selection;
        if (shape_.ratio != 0) {
            const Rows value = rows(shape_.overlapping() ? &Text::value : &Text::plain_value);
            const Rows score = rows(shape_.overlapping() ? &Text::score : &Text::plain_score);
            backend.compress(main_, batch.rows(), history, false, value, score);
        }
        if (shape_.ratio == 4) {
            backend.compress(indexer_, batch.rows(), history, true, rows(&Text::index_value),
                             rows(&Text::index_score));
            selection = {device_.allocate<std::int32_t>(batch.n() * kCapacity),
                         device_.allocate<std::int32_t>(batch.n()), kCapacity};
            backend.select_rows(batch.rows(), history, rows(&Text::index_q), rows(&Text::index_weight),
                                kIndexDim, selection);
        }
        const Attention spec{kHeads, kHeadDim, 20, shape_.ratio, sinks_};
        const Rows kv = rows(&Text::kv);
        result_ = device_.result(batch.n(), kHeads * kHeadDim);
        backend.attention(spec, batch.rows(), history, selection, rows(&Text::q), kv, result_);
        backend.store_window(batch.rows(), history, kv);
    }

    Device& device_;
    LayerShape shape_;
    std::vector<float> frequency_;
    Vector sinks_;
    Compressor main_, indexer_;
    std::deque<TestSession> sessions_;
    std::vector<const Text*> texts_;
    std::vector<std::int64_t> fed_;
    std::vector<std::vector<float>> out_;
    Rows result_;
};

class HistoryInvariance : public testing::TestWithParam<std::int64_t> {};

std::vector<float> feed_alone(Backend& backend, std::int64_t ratio, const Text& text,
                              const std::vector<std::int64_t>& chunks) {
    Device device(backend);
    Layer layer(device, ratio);
    layer.begin(text);
    std::int64_t left = kTokens;
    for (std::size_t i = 0; left > 0; ++i) {
        const std::int64_t n = std::min(left, chunks[i % chunks.size()]);
        layer.step({n});
        left -= n;
    }
    return layer.everything(0);
}

TEST_P(HistoryInvariance, ChunksAndThreads) {
    const Text text(11);
    std::vector<float> expected;
    for (const int n_threads : kThreadCounts) {
        const std::unique_ptr<Backend> backend = make_cpu_backend(n_threads);
        const std::vector<std::vector<std::int64_t>> chunkings{
            {kTokens}, {1}, {2}, {3}, {4}, {5, 1}, {127, 1, 2}, {128}, {129}, {19, 20, 21}, {1, 64, 7}};
        for (const auto& chunks : chunkings) {
            const std::vector<float> actual = feed_alone(*backend, GetParam(), text, chunks);
            if (expected.empty()) expected = actual;
            expect_same_bits(
                actual, expected,
                "chunks of " + std::to_string(chunks[0]) + ", " + std::to_string(n_threads) + " threads");
            if (HasFatalFailure()) return;
        }
    }
}

TEST_P(HistoryInvariance, OtherSessionsInTheBatch) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(4);
    const Text texts[] = {Text(11), Text(12), Text(13)};
    Device device(*backend);
    Layer layer(device, GetParam());
    for (const Text& text : texts) layer.begin(text);
    // The sessions move at different speeds and pause.
    std::vector<std::int64_t> left(3, kTokens);
    for (std::int64_t i = 0; left[0] + left[1] + left[2] > 0; ++i) {
        std::vector<std::int64_t> n{1 + i % 3, i % 2 == 0 ? 0 : 9, i % 5 == 0 ? 40 : 1};
        for (std::size_t s = 0; s < 3; ++s) left[s] -= n[s] = std::min(n[s], left[s]);
        if (n[0] + n[1] + n[2] > 0) layer.step(n);
    }
    for (std::size_t s = 0; s < 3; ++s) {
        expect_same_bits(layer.everything(s), feed_alone(*backend, GetParam(), texts[s], {kTokens}),
                         "session " + std::to_string(s));
        if (HasFatalFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Cpu, HistoryInvariance, testing::Values(0, 4, 128),
                         [](const testing::TestParamInfo<std::int64_t>& ratio) {
                             return "ratio_" + std::to_string(ratio.param);
                         });

}  // namespace
}  // namespace ds4::test
