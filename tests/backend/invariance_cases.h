#pragma once

#include <cstdint>
#include <deque>
#include <ostream>
#include <string>
#include <vector>

#include "backend/device.h"
#include "backend/session.h"

// Operations that are fed the same rows in different batches: what comes out must be the same bits.
namespace ds4::test {

void expect_same_bits(const std::vector<float>& actual, const std::vector<float>& expected,
                      const std::string& where);

// ---- operations on rows

// Runs an operation on rows [first, first + n) of its inputs, which are always the same; returns what it
// wrote.
struct RowOp {
    std::string name;
    std::int64_t n_rows;
    std::vector<float> (*run)(Device& device, std::int64_t first, std::int64_t n);
    bool has_prompt_kernels = false;  // on a GPU, rows of prompts are multiplied in another way
};

std::vector<RowOp> row_ops();

// The results of an operation on all of its rows, in batches of `batch`.
std::vector<float> run_in_batches(const RowOp& op, Backend& backend, std::int64_t batch);

inline void PrintTo(const RowOp& op, std::ostream* out) {
    *out << op.name;
}

// Router and experts in Q8_0 on rows [first, first + n) of n_rows.
std::vector<float> q8_0_experts(Device& device, std::int64_t first, std::int64_t n, std::int64_t n_rows);

// ---- operations with a history

constexpr std::int64_t kHeads = 6, kHeadDim = 96, kIndexHeads = 5, kIndexDim = 32, kRopeDims = 32;
constexpr std::int64_t kTokens = 300;  // of a text

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
        c.ape = device_.matrix(random, quant::Type::f16, shape_.ratio, shape_.width(dim), 1,
                               Backend::MatrixUse::added);
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

// The outputs of one text that is fed alone, in chunks of these lengths in turn, and the state it leaves.
std::vector<float> feed_alone(Backend& backend, std::int64_t ratio, const Text& text,
                              const std::vector<std::int64_t>& chunks);

}  // namespace ds4::test
