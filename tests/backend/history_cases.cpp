#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

#include "backend/op_cases.h"
#include "backend/session.h"

namespace ds4::test {
namespace {

using SegmentList = std::vector<std::pair<std::int64_t, std::int64_t>>;  // (start, rows)

// Sessions at the given places and the batch that moves them on.
class Sessions {
  public:
    Sessions(Device& device, Random& random, const LayerShape& shape, const SegmentList& segments)
        : batch(segments) {
        for (const auto& [start, n] : segments) {
            sessions.emplace_back(device, random, shape, start, n);
            history.push_back(sessions.back().history());
        }
    }

    TestBatch batch;
    std::deque<TestSession> sessions;
    std::vector<LayerHistory> history;
};

quant::KvFormat any_format(Random& random) {
    return static_cast<quant::KvFormat>(random.integer(0, 2));
}

// Starts around the boundaries of windows and chunks of all lengths.
SegmentList any_segments(Random& random, std::int64_t max_start, std::int64_t max_rows) {
    SegmentList segments;
    const std::int64_t n = random.integer(1, 4);
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t start = random.integer(0, 3) == 0 ? 0 : random.integer(0, max_start);
        segments.emplace_back(start, random.integer(0, 2) == 0 ? 1 : random.integer(1, max_rows));
    }
    return segments;
}

struct CompressCase {
    std::int64_t ratio;
    bool of_indexer;
    bool rounding;
    quant::Type ape;
};

Outputs compress(Device& device, Random& random, const CompressCase& c) {
    const auto format = c.rounding ? quant::KvFormat::packed : quant::KvFormat::f32;
    const LayerShape shape{c.ratio, 128 + 32, 64, 8, format, 96};
    const Sessions at(device, random, shape, any_segments(random, 3 * c.ratio + 2, 3 * c.ratio + 3));
    const std::int64_t n_dims = c.of_indexer ? 32 : 96;
    const std::vector<float> frequency = random.gaussian(n_dims / 2);
    Compressor compressor;
    compressor.ratio = c.ratio;
    compressor.dim = c.of_indexer ? shape.index_dim : shape.head_dim;
    compressor.ape =
        device.matrix(random, c.ape, c.ratio, shape.width(compressor.dim), 1, Backend::MatrixUse::added);
    compressor.norm = device.vector(random.gaussian(compressor.dim));
    compressor.rope = {frequency.data(), n_dims};
    compressor.rms_eps = 1e-6F;
    compressor.finish = c.of_indexer ? Compressor::Finish::hadamard_fp4 : Compressor::Finish::fp8;
    compressor.rounding = c.rounding;

    const std::int64_t width = shape.width(compressor.dim);
    const Rows value = device.rows(random.gaussian(at.batch.n() * width), width);
    const Rows score = device.rows(random.gaussian(at.batch.n() * width, 3), width);
    device.backend().compress(compressor, at.batch.rows(), at.history, c.of_indexer, value, score);

    // A flipped FP8 rounding moves a value by at most 32 of 448; FP4 by 2 of 6.
    Tolerance tolerance = kF32;
    if (c.rounding) tolerance = {2e-5, 0.01, c.of_indexer ? 0.34 : 0.072};
    Outputs out;
    for (const TestSession& session : at.sessions) {
        out.push_back({"rows", session.rows(c.of_indexer), tolerance});
        // Values as they came, scores with one f32 addition.
        out.push_back({"frontier", session.frontier(c.of_indexer), {}});
    }
    return out;
}

struct SelectCase {
    std::int64_t n_heads, head_dim, capacity, max_start, max_rows;
};

// Small integers: every score is exact in f32, many are equal.
Outputs select_rows(Device& device, Random& random, const SelectCase& c) {
    const LayerShape shape{4, 32, c.head_dim, 8, any_format(random), 32};
    const Sessions at(device, random, shape, any_segments(random, c.max_start, c.max_rows));
    // Rows that this batch itself closes are there already.
    for (std::size_t s = 0; s < at.sessions.size(); ++s) {
        const Segment& segment = at.batch.rows().segments[s];
        for (std::int64_t i = segment.start / 4; i < (segment.start + segment.n_rows) / 4; ++i) {
            const std::vector<float> row = random.integers(c.head_dim, 4);
            TestSession::put_row(device, at.history[s].indexer, i, row);
        }
    }
    const std::int64_t n = at.batch.n();
    const Rows q = device.rows(random.integers(n * c.n_heads * c.head_dim, 4), c.n_heads * c.head_dim);
    const Rows weight = device.rows(random.integers(n * c.n_heads, 3), c.n_heads);
    const Selection selection{
        device.upload(std::vector<std::int32_t>(static_cast<std::size_t>(n * c.capacity), -1)),
        device.upload(std::vector<std::int32_t>(static_cast<std::size_t>(n), -1)), c.capacity};
    device.backend().select_rows(at.batch.rows(), at.history, q, weight, c.head_dim, selection);
    return {{"count", as_floats(device.download(selection.count, n)), {}},
            {"rows", as_floats(device.download(selection.rows, n * c.capacity)), {}}};
}

// Before any query sees more than `capacity` rows nobody computes q and weight.
Outputs select_all(Device& device, Random& random) {
    constexpr std::int64_t kCapacity = 5;
    const Sessions at(device, random, {4, 32, 32, 8}, {{0, 9}, {13, 10}});
    const std::int64_t n = at.batch.n();
    const auto garbage = [&](std::int64_t width) {
        return device.rows(std::vector<float>(static_cast<std::size_t>(n * width), NAN), width);
    };
    const Selection selection{
        device.upload(std::vector<std::int32_t>(static_cast<std::size_t>(n * kCapacity), -1)),
        device.allocate<std::int32_t>(static_cast<std::size_t>(n)), kCapacity};
    device.backend().select_rows(at.batch.rows(), at.history, garbage(64), garbage(2), 32, selection);
    return {{"count", as_floats(device.download(selection.count, n)), {}},
            {"rows", as_floats(device.download(selection.rows, n * kCapacity)), {}}};
}

struct AttentionCase {
    std::int64_t ratio;
    bool selected;
    std::int64_t max_start, max_rows;
};

// A random ascending list of the rows that a query sees.
void choose_rows(Random& random, std::int64_t n_visible, std::int64_t capacity,
                 std::vector<std::int32_t>& rows, std::vector<std::int32_t>& count) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(n_visible));
    std::iota(all.begin(), all.end(), 0);
    while (static_cast<std::int64_t>(all.size()) > capacity) {
        all.erase(all.begin() + random.integer(0, static_cast<std::int64_t>(all.size()) - 1));
    }
    count.push_back(static_cast<std::int32_t>(all.size()));
    all.resize(static_cast<std::size_t>(capacity), -1);
    rows.insert(rows.end(), all.begin(), all.end());
}

Outputs attention(Device& device, Random& random, const AttentionCase& c, std::int64_t n_heads,
                  std::int64_t d, std::int64_t window) {
    const LayerShape shape{c.ratio, d, 32, window, any_format(random), d % 64};
    const Sessions at(device, random, shape, any_segments(random, c.max_start, c.max_rows));
    constexpr std::int64_t kCapacity = 7;
    std::vector<std::int32_t> rows;
    std::vector<std::int32_t> count;
    for (std::size_t s = 0; s < at.sessions.size(); ++s) {
        const Segment& segment = at.batch.rows().segments[s];
        for (std::int64_t p = segment.start; c.ratio != 0 && p < segment.start + segment.n_rows; ++p) {
            choose_rows(random, (p + 1) / c.ratio, kCapacity, rows, count);
            if ((p + 1) % c.ratio != 0) continue;
            const std::vector<float> row = random.gaussian(d);
            TestSession::put_row(device, at.history[s].compressed, p / c.ratio, row);
        }
    }
    Selection selection;
    if (c.selected) selection = {device.upload(rows), device.upload(count), kCapacity};

    const std::int64_t n = at.batch.n();
    Attention spec{n_heads, d, window, c.ratio, device.vector(random.gaussian(n_heads, 4))};
    // Deviation 2: scores between about -8 and 8, so that the softmax is neither flat nor a maximum.
    const Rows q = device.rows(random.gaussian(n * n_heads * d, 2), n_heads * d);
    const Rows kv = device.rows(random.gaussian(n * d), d);
    const Rows out = device.result(n, n_heads * d);
    device.backend().attention(spec, at.batch.rows(), at.history, selection, q, kv, out);
    device.backend().store_window(at.batch.rows(), at.history, kv);
    const std::int64_t n_dims = 2 * random.integer(0, d / 2);
    const std::vector<float> frequency = random.gaussian(n_dims / 2);
    if (n_dims > 0)
        device.backend().rope({frequency.data(), n_dims}, at.batch.rows().positions, d, true, out);
    Outputs outputs{{"out", device.download(out), kF32}};
    for (const TestSession& session : at.sessions) {
        std::vector<float> ring = session.window();
        std::replace_if(
            ring.begin(), ring.end(), [](float v) { return std::isnan(v); }, -999.0F);  // comparable
        outputs.push_back({"window", ring, {}});
    }
    return outputs;
}

// Sinks far above and far below all scores.
Outputs attention_sinks(Device& device, Random& random) {
    const Sessions at(device, random, {0, 64, 0, 16}, {{20, 3}});
    Attention spec{2, 64, 16, 0, device.vector({200, -200})};
    const Rows q = device.rows(random.gaussian(3 * 128, 30), 128);
    const Rows kv = device.rows(random.gaussian(3 * 64), 64);
    const Rows out = device.result(3, 128);
    device.backend().attention(spec, at.batch.rows(), at.history, {}, q, kv, out);
    return {{"out",
             device.download(out),
             {.typical = 2e-4}}};  // scores near 100 leave exp 1e-5 of their last bits
}

}  // namespace

std::vector<OpCase> history_cases() {
    std::vector<OpCase> cases;
    for (const std::int64_t ratio : {4, 128}) {
        for (const bool rounding : {false, true}) {
            const std::string name = "compress_" + std::to_string(ratio) + (rounding ? "_rounded" : "");
            const CompressCase c{ratio, false, rounding, rounding ? quant::Type::f16 : quant::Type::f32};
            cases.push_back({name, 16, [c](Device& d, Random& r) { return compress(d, r, c); }});
        }
    }
    for (const bool rounding : {false, true}) {
        const CompressCase c{4, true, rounding, quant::Type::q8_0};
        cases.push_back({rounding ? "compress_indexer_rounded" : "compress_indexer", 16,
                         [c](Device& d, Random& r) { return compress(d, r, c); }});
    }
    cases.push_back(
        {"select_rows", 16, [](Device& d, Random& r) {
             return select_rows(d, r, {r.integer(1, 9), 32 * r.integer(1, 4), r.integer(1, 20), 300, 60});
         }});
    // Starts far enough from 0 for several hundred rows, most of them not selected.
    cases.push_back({"select_rows_long", 3, [](Device& d, Random& r) {
                         return select_rows(d, r, {2, 32, 100, 9000, 3});
                     }});
    cases.push_back({"select_rows_flash", 1, [](Device& d, Random& r) {
                         return select_rows(d, r, {64, 128, 512, 6000, 20});
                     }});
    cases.push_back({"select_all", 1, select_all});
    const auto small = [&](const std::string& name, const AttentionCase& c) {
        cases.push_back({name, 16, [c](Device& d, Random& r) {
                             const std::int64_t n_heads = r.integer(1, 9);
                             const std::int64_t width = r.integer(1, 100);
                             return attention(d, r, c, n_heads, width, r.integer(1, 40));
                         }});
    };
    small("attention_window", {0, false, 100, 90});
    small("attention_selected", {4, true, 100, 60});
    small("attention_all_csa", {4, false, 300, 60});
    small("attention_hca", {128, false, 900, 150});
    cases.push_back({"attention_flash", 1, [](Device& d, Random& r) {
                         return attention(d, r, {128, false, 5000, 3}, 64, 512, 128);
                     }});
    cases.push_back({"attention_sinks", 4, attention_sinks});
    return cases;
}

}  // namespace ds4::test
