#include "backend/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <vector>

#include "quant/rounding.h"

namespace ds4 {
namespace {

std::vector<float> decode_row(const Matrix& w, std::int64_t o) {
    std::vector<float> row(static_cast<std::size_t>(w.n_in));
    quant::format(w.type).decode(w.row(o), row.data(), row.size());
    return row;
}

double dot(const float* a, const float* b, std::int64_t n) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return sum;
}

double inverse_rms(const float* x, std::int64_t n, float eps) {
    return 1.0 / std::sqrt(dot(x, x, n) / static_cast<double>(n) + static_cast<double>(eps));
}

double sigmoid(double x) {
    return 1.0 / (1.0 + std::exp(-x));
}

// One rotation of the last dims of a head, model.md 5. The angle is formed in f32 as in the released code
// (D1).
void rotate(float* head, std::int64_t head_dim, const Rope& rope, std::int32_t position, bool inverse) {
    float* x = head + head_dim - rope.n_dims;
    for (std::int64_t i = 0; i < rope.n_dims / 2; ++i) {
        const float theta = static_cast<float>(position) * rope.frequency[i];
        const double c = std::cos(static_cast<double>(theta));
        const double s = std::sin(static_cast<double>(theta)) * (inverse ? -1 : 1);
        const double a = static_cast<double>(x[2 * i]);
        const double b = static_cast<double>(x[2 * i + 1]);
        x[2 * i] = static_cast<float>(a * c - b * s);
        x[2 * i + 1] = static_cast<float>(a * s + b * c);
    }
}

// pre (M), post (M), comb (M * M) of one row, model.md 4.2.
struct Mixing {
    std::vector<double> pre, post, comb;
};

Mixing mix_streams(const HyperConnection& hc, const float* streams, std::int64_t width) {
    const std::int64_t m = hc.n_streams;
    const double rho = inverse_rms(streams, width, hc.rms_eps);
    std::vector<double> mix(static_cast<std::size_t>(hc.fn.n_out));
    for (std::int64_t k = 0; k < hc.fn.n_out; ++k) {
        mix[k] = rho * dot(decode_row(hc.fn, k).data(), streams, width);
    }
    const auto affine = [&](std::int64_t k, std::int64_t part) {
        return mix[k] * static_cast<double>(hc.scale.data[part]) + static_cast<double>(hc.base.data[k]);
    };
    const auto eps = static_cast<double>(hc.eps);
    Mixing out;
    for (std::int64_t k = 0; k < m; ++k) out.pre.push_back(sigmoid(affine(k, 0)) + eps);
    if (hc.fn.n_out == m) return out;  // the head has no post and no comb

    for (std::int64_t k = 0; k < m; ++k) out.post.push_back(2 * sigmoid(affine(m + k, 1)));
    out.comb.resize(static_cast<std::size_t>(m * m));
    auto& c = out.comb;
    for (std::int64_t j = 0; j < m; ++j) {
        double top = -std::numeric_limits<double>::infinity();
        for (std::int64_t k = 0; k < m; ++k) top = std::max(top, c[j * m + k] = affine(2 * m + j * m + k, 2));
        double sum = 0;
        for (std::int64_t k = 0; k < m; ++k) sum += c[j * m + k] = std::exp(c[j * m + k] - top);
        for (std::int64_t k = 0; k < m; ++k) c[j * m + k] = c[j * m + k] / sum + eps;
    }
    const auto normalise = [&](bool rows) {
        for (std::int64_t a = 0; a < m; ++a) {
            double sum = 0;
            for (std::int64_t b = 0; b < m; ++b) sum += rows ? c[a * m + b] : c[b * m + a];
            for (std::int64_t b = 0; b < m; ++b) (rows ? c[a * m + b] : c[b * m + a]) /= sum + eps;
        }
    };
    normalise(false);
    for (int i = 1; i < hc.sinkhorn_iterations; ++i) {
        normalise(true);
        normalise(false);
    }
    return out;
}

void collapse(const std::vector<double>& pre, const float* streams, std::int64_t width, float* x) {
    for (std::int64_t i = 0; i < width; ++i) {
        double sum = 0;
        for (std::size_t m = 0; m < pre.size(); ++m)
            sum += pre[m] * static_cast<double>(streams[m * width + i]);
        x[i] = static_cast<float>(sum);
    }
}

class Reference final : public Backend {
  public:
    std::string description() const override { return "reference, 1 thread, scalar"; }

    void* allocate(std::size_t bytes) override {
        const std::size_t rounded = (std::max<std::size_t>(bytes, 1) + 63) / 64 * 64;
        void* memory = std::aligned_alloc(64, rounded);
        if (memory == nullptr) throw std::bad_alloc();
        return std::memset(memory, 0, rounded);
    }
    void release(void* memory) noexcept override { std::free(memory); }
    void upload(void* to, const void* host, std::size_t bytes) override { std::memcpy(to, host, bytes); }
    void download(void* host, const void* from, std::size_t bytes) override {
        std::memcpy(host, from, bytes);
    }
    Matrix place(const Matrix& host, MatrixUse /*use*/) override { return host; }

    void matmul(const Matrix& w, Rows x, Rows y) override { grouped_matmul(w, 1, x, y); }

    void grouped_matmul(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) override {
        const std::int64_t outs_per_group = w.n_out / n_groups;
        for (std::int64_t o = 0; o < w.n_out; ++o) {
            const std::vector<float> weights = decode_row(w, o);
            const std::int64_t group = o / outs_per_group;
            for (std::int64_t r = 0; r < x.n; ++r) {
                y.row(r)[o] = static_cast<float>(dot(weights.data(), x.row(r) + group * w.n_in, w.n_in));
            }
        }
    }

    void rms_norm(Rows x, const Vector& w, std::int64_t width, float eps, Rows y) override {
        for (std::int64_t at = 0; at < x.n * x.width; at += width) {
            const double scale = inverse_rms(x.data + at, width, eps);
            for (std::int64_t i = 0; i < width; ++i) {
                const double gain = w ? static_cast<double>(w.data[i]) : 1.0;
                y.data[at + i] = static_cast<float>(gain * (static_cast<double>(x.data[at + i]) * scale));
            }
        }
    }

    void add(Rows x, Rows y) override {
        for (std::int64_t r = 0; r < y.n; ++r) {
            for (std::int64_t i = 0; i < y.width; ++i) y.row(r)[i] += x.row(r)[i % x.width];
        }
    }

    void arg_max(Rows x, std::int32_t* best) override {
        for (std::int64_t r = 0; r < x.n; ++r) {
            best[r] = 0;
            float top = -std::numeric_limits<float>::infinity();
            for (std::int64_t i = 0; i < x.width; ++i) {
                if (!(x.row(r)[i] > top)) continue;
                top = x.row(r)[i];
                best[r] = static_cast<std::int32_t>(i);
            }
        }
    }

    void embed(const Matrix& table, std::span<const TokenId> tokens, std::int64_t n_streams,
               Rows streams) override {
        for (std::int64_t r = 0; r < streams.n; ++r) {
            const std::vector<float> row = decode_row(table, tokens[r]);
            for (std::int64_t m = 0; m < n_streams; ++m) {
                std::copy(row.begin(), row.end(), streams.row(r) + m * table.n_in);
            }
        }
    }

    void hc_collapse(const HyperConnection& hc, Rows streams, Rows x, Rows post, Rows comb) override {
        for (std::int64_t r = 0; r < streams.n; ++r) {
            const Mixing mixing = mix_streams(hc, streams.row(r), streams.width);
            collapse(mixing.pre, streams.row(r), x.width, x.row(r));
            std::copy(mixing.post.begin(), mixing.post.end(), post.row(r));
            std::copy(mixing.comb.begin(), mixing.comb.end(), comb.row(r));
        }
    }

    void hc_expand(Rows y, Rows post, Rows comb, Rows streams) override {
        const std::int64_t m = post.width;
        std::vector<double> old(static_cast<std::size_t>(m));
        for (std::int64_t r = 0; r < y.n; ++r) {
            for (std::int64_t i = 0; i < y.width; ++i) {
                for (std::int64_t j = 0; j < m; ++j)
                    old[j] = static_cast<double>(streams.row(r)[j * y.width + i]);
                for (std::int64_t k = 0; k < m; ++k) {
                    double sum = static_cast<double>(post.row(r)[k]) * static_cast<double>(y.row(r)[i]);
                    for (std::int64_t j = 0; j < m; ++j)
                        sum += static_cast<double>(comb.row(r)[j * m + k]) * old[j];
                    streams.row(r)[k * y.width + i] = static_cast<float>(sum);
                }
            }
        }
    }

    void hc_head(const HyperConnection& hc, Rows streams, Rows x) override {
        for (std::int64_t r = 0; r < streams.n; ++r) {
            collapse(mix_streams(hc, streams.row(r), streams.width).pre, streams.row(r), x.width, x.row(r));
        }
    }

    void rope(const Rope& rope, std::span<const std::int32_t> positions, std::int64_t head_dim, bool inverse,
              Rows x) override {
        for (std::int64_t r = 0; r < x.n; ++r) {
            for (std::int64_t at = 0; at < x.width; at += head_dim) {
                rotate(x.row(r) + at, head_dim, rope, positions[r], inverse);
            }
        }
    }

    void round_fp8(Rows x, std::int64_t n_tail, bool tail_to_f16) override {
        const std::int64_t n = x.width - n_tail;
        for (std::int64_t r = 0; r < x.n; ++r) {
            quant::round_fp8(x.row(r), static_cast<std::size_t>(n));
            if (tail_to_f16) quant::round_f16(x.row(r) + n, static_cast<std::size_t>(n_tail));
        }
    }

    void round_hadamard_fp4(Rows x, std::int64_t head_dim) override {
        for (std::int64_t at = 0; at < x.n * x.width; at += head_dim) {
            quant::hadamard(x.data + at, static_cast<std::size_t>(head_dim));
            quant::round_fp4(x.data + at, static_cast<std::size_t>(head_dim));
        }
    }

    void compress(const Compressor& compressor, const BatchRows& batch, std::span<const LayerHistory> history,
                  bool of_indexer, Rows value, Rows score) override {
        for (std::size_t s = 0; s < batch.segments.size(); ++s) {
            const Segment& segment = batch.segments[s];
            const Frontier& frontier = of_indexer ? history[s].indexer_compressor : history[s].compressor;
            const PagedRows& rows = of_indexer ? history[s].indexer : history[s].compressed;
            for (std::int64_t i = 0; i < segment.n_rows; ++i) {
                const std::int64_t r = segment.first_row + i;
                feed(compressor, segment.start + i, value.row(r), score.row(r), value.width, frontier, rows);
            }
        }
    }

    void select_rows(const BatchRows& batch, std::span<const LayerHistory> history, Rows q, Rows weight,
                     std::int64_t head_dim, const Selection& selection) override {
        constexpr std::int64_t kRatio = 4;
        for (std::size_t s = 0; s < batch.segments.size(); ++s) {
            const Segment& segment = batch.segments[s];
            for (std::int64_t i = 0; i < segment.n_rows; ++i) {
                const std::int64_t r = segment.first_row + i;
                const std::int64_t n = (segment.start + i + 1) / kRatio;
                std::vector<std::int32_t> order(static_cast<std::size_t>(n));
                std::iota(order.begin(), order.end(), 0);
                if (n > selection.capacity) {
                    std::vector<float> scores;
                    for (std::int64_t row = 0; row < n; ++row) {
                        const std::vector<float> key = stored_row(history[s].indexer, row);
                        double sum = 0;
                        for (std::int64_t h = 0; h < weight.width; ++h) {
                            const double product = dot(q.row(r) + h * head_dim, key.data(), head_dim);
                            sum += static_cast<double>(weight.row(r)[h]) * std::max(0.0, product);
                        }
                        scores.push_back(static_cast<float>(sum));
                    }
                    std::stable_sort(order.begin(), order.end(),
                                     [&](std::int32_t a, std::int32_t b) { return scores[a] > scores[b]; });
                    order.resize(static_cast<std::size_t>(selection.capacity));
                    std::sort(order.begin(), order.end());
                }
                std::copy(order.begin(), order.end(), selection.rows + r * selection.capacity);
                selection.count[r] = static_cast<std::int32_t>(order.size());
            }
        }
    }

    void attention(const Attention& attention, const BatchRows& batch, std::span<const LayerHistory> history,
                   const Selection& selection, Rows q, Rows kv, Rows out) override {
        const std::int64_t d = attention.head_dim;
        for (std::size_t s = 0; s < batch.segments.size(); ++s) {
            const Segment& segment = batch.segments[s];
            for (std::int64_t i = 0; i < segment.n_rows; ++i) {
                const std::int64_t r = segment.first_row + i;
                const std::vector<std::vector<float>> keys =
                    visible_rows(attention, segment, history[s], selection, kv, segment.start + i, r);
                for (std::int64_t h = 0; h < attention.n_heads; ++h) {
                    attend(q.row(r) + h * d, keys, d, attention.sinks.data[h], out.row(r) + h * d);
                }
            }
        }
    }

    void store_window(const BatchRows& batch, std::span<const LayerHistory> history, Rows kv) override {
        for (std::size_t s = 0; s < batch.segments.size(); ++s) {
            const Segment& segment = batch.segments[s];
            for (std::int64_t i = std::max<std::int64_t>(0, segment.n_rows - history[s].window_rows);
                 i < segment.n_rows; ++i) {
                const float* row = kv.row(segment.first_row + i);
                const std::int64_t slot = (segment.start + i) % history[s].window_rows;
                std::copy(row, row + kv.width, history[s].window + slot * kv.width);
            }
        }
    }

    void route(const Router& router, std::span<const TokenId> tokens, Rows logits,
               const Routing& out) override {
        for (std::int64_t r = 0; r < logits.n; ++r) {
            std::vector<double> p;
            for (std::int64_t e = 0; e < logits.width; ++e) {
                const auto z = static_cast<double>(logits.row(r)[e]);
                p.push_back(std::sqrt(z > 20 ? z : std::log1p(std::exp(z))));
            }
            std::int32_t* chosen = out.expert + r * out.n_used;
            choose_experts(router, tokens[r], p, chosen);
            double sum = 0;
            for (std::int64_t k = 0; k < out.n_used; ++k) sum += p[chosen[k]];
            const double denominator = router.normalise ? std::max(sum, 0x1p-14) : 1.0;
            for (std::int64_t k = 0; k < out.n_used; ++k) {
                out.weight[r * out.n_used + k] =
                    static_cast<float>(static_cast<double>(router.weight_scale) * p[chosen[k]] / denominator);
            }
        }
    }

    void routed_experts(const Experts& experts, const Routing& routing, Rows x, Rows y) override {
        const std::int64_t f = experts.gate.n_out;
        std::vector<float> gate(static_cast<std::size_t>(f)), up(gate),
            out(static_cast<std::size_t>(y.width));
        for (std::int64_t r = 0; r < x.n; ++r) {
            std::fill(y.row(r), y.row(r) + y.width, 0.0F);
            for (std::int64_t k = 0; k < routing.n_used; ++k) {
                const std::int64_t e = routing.expert[r * routing.n_used + k];
                const Rows gate_row{gate.data(), 1, f};
                const Rows up_row{up.data(), 1, f};
                matmul(experts.gate.member(e), x.slice(r, 1), gate_row);
                matmul(experts.up.member(e), x.slice(r, 1), up_row);
                swiglu(gate_row, up_row, experts.clamp);
                for (float& a : gate) a *= routing.weight[r * routing.n_used + k];
                matmul(experts.down.member(e), gate_row, {out.data(), 1, y.width});
                for (std::int64_t i = 0; i < y.width; ++i) y.row(r)[i] += out[i];
            }
        }
    }

    void swiglu(Rows gate, Rows up, float clamp) override {
        for (std::int64_t i = 0; i < gate.n * gate.width; ++i) {
            float g = gate.data[i];
            float u = up.data[i];
            if (clamp > 1e-6F) {
                g = std::min(g, clamp);
                u = std::clamp(u, -clamp, clamp);
            }
            const auto z = static_cast<double>(g);
            gate.data[i] = static_cast<float>(z * sigmoid(z) * static_cast<double>(u));
        }
    }

  private:
    // One token through a compressor, model.md 7: fill its slot, and at the end of a window pool, finish and
    // append.
    static void feed(const Compressor& c, std::int64_t position, const float* value, const float* score,
                     std::int64_t width, const Frontier& frontier, const PagedRows& rows) {
        const bool overlapping = width == 2 * c.dim;
        const std::int64_t within = position % c.ratio;
        const std::int64_t slot = within + (overlapping ? c.ratio : 0);
        const std::vector<float> ape = decode_row(c.ape, within);
        for (std::int64_t i = 0; i < width; ++i) {
            frontier.value[slot * width + i] = value[i];
            frontier.score[slot * width + i] = score[i] + ape[i];
        }
        if (within != c.ratio - 1) return;

        const std::int64_t index = position / c.ratio;
        const std::int64_t n_slots = overlapping ? 2 * c.ratio : c.ratio;
        std::vector<float> pooled(static_cast<std::size_t>(c.dim));
        float* row = pooled.data();
        for (std::int64_t i = 0; i < c.dim; ++i) row[i] = pool(frontier, n_slots, c.ratio, width, c.dim, i);
        const double scale = inverse_rms(row, c.dim, c.rms_eps);
        for (std::int64_t i = 0; i < c.dim; ++i) {
            row[i] = static_cast<float>(static_cast<double>(c.norm.data[i]) *
                                        (static_cast<double>(row[i]) * scale));
        }
        rotate(row, c.dim, c.rope, static_cast<std::int32_t>(index * c.ratio), false);
        if (c.rounding && c.finish == Compressor::Finish::fp8) {
            quant::round_fp8(row, static_cast<std::size_t>(c.dim - c.rope.n_dims));
        } else if (c.rounding) {
            quant::hadamard(row, static_cast<std::size_t>(c.dim));
            quant::round_fp4(row, static_cast<std::size_t>(c.dim));
        }
        quant::encode_kv_row(rows.format, row, rows.row(index));
        close_window(frontier, overlapping, c.ratio, width);
    }

    // Softmax over the slots of one channel. Slots of the previous window speak through their first half,
    // slots of the open one through the second (ratio 4); a score of -infinity weighs exactly nothing.
    static float pool(const Frontier& frontier, std::int64_t n_slots, std::int64_t ratio, std::int64_t width,
                      std::int64_t dim, std::int64_t channel) {
        const auto at = [&](std::int64_t slot) {
            return slot * width + channel + (width == 2 * dim && slot >= ratio ? dim : 0);
        };
        float top = -std::numeric_limits<float>::infinity();
        for (std::int64_t slot = 0; slot < n_slots; ++slot) top = std::max(top, frontier.score[at(slot)]);
        double sum = 0;
        double weighted = 0;
        for (std::int64_t slot = 0; slot < n_slots; ++slot) {
            const double e =
                std::exp(static_cast<double>(frontier.score[at(slot)]) - static_cast<double>(top));
            sum += e;
            weighted += e * static_cast<double>(frontier.value[at(slot)]);
        }
        return static_cast<float>(weighted / sum);
    }

    // The open window becomes the previous one (ratio 4), and its slots are empty again: the canonical
    // frontier.
    static void close_window(const Frontier& frontier, bool overlapping, std::int64_t ratio,
                             std::int64_t width) {
        const std::int64_t n = ratio * width;
        if (overlapping) {
            std::copy_n(frontier.value + n, n, frontier.value);
            std::copy_n(frontier.score + n, n, frontier.score);
        }
        const std::int64_t open = overlapping ? n : 0;
        std::fill_n(frontier.value + open, n, 0.0F);
        std::fill_n(frontier.score + open, n, -std::numeric_limits<float>::infinity());
    }

    static std::vector<float> stored_row(const PagedRows& rows, std::int64_t i) {
        std::vector<float> values(static_cast<std::size_t>(rows.format.width));
        quant::decode_kv_row(rows.format, rows.row(i), values.data());
        return values;
    }

    static std::vector<std::vector<float>> visible_rows(const Attention& attention, const Segment& segment,
                                                        const LayerHistory& history,
                                                        const Selection& selection, Rows kv,
                                                        std::int64_t position, std::int64_t r) {
        std::vector<std::vector<float>> keys;
        for (std::int64_t p = std::max<std::int64_t>(0, position - attention.window + 1); p <= position;
             ++p) {
            const float* row = p >= segment.start ? kv.row(segment.first_row + p - segment.start)
                                                  : history.window + p % history.window_rows * kv.width;
            keys.emplace_back(row, row + kv.width);
        }
        if (attention.ratio == 0) return keys;
        if (selection.rows == nullptr) {
            const std::int64_t n = (position + 1) / attention.ratio;
            for (std::int64_t i = 0; i < n; ++i) keys.push_back(stored_row(history.compressed, i));
        } else {
            const std::int32_t* list = selection.rows + r * selection.capacity;
            for (std::int32_t i = 0; i < selection.count[r]; ++i)
                keys.push_back(stored_row(history.compressed, list[i]));
        }
        return keys;
    }

    static void attend(const float* q, const std::vector<std::vector<float>>& keys, std::int64_t d,
                       float sink, float* out) {
        const double scale = 1.0 / std::sqrt(static_cast<double>(d));
        std::vector<double> score;
        auto top = static_cast<double>(sink);
        for (const std::vector<float>& key : keys) {
            score.push_back(scale * dot(q, key.data(), d));
            top = std::max(top, score.back());
        }
        double sum = std::exp(static_cast<double>(sink) - top);
        std::vector<double> acc(static_cast<std::size_t>(d));
        for (std::size_t j = 0; j < keys.size(); ++j) {
            const double e = std::exp(score[j] - top);
            sum += e;
            for (std::int64_t i = 0; i < d; ++i) acc[i] += e * static_cast<double>(keys[j][i]);
        }
        for (std::int64_t i = 0; i < d; ++i) out[i] = static_cast<float>(acc[i] / sum);
    }

    static void choose_experts(const Router& router, TokenId token, const std::vector<double>& p,
                               std::int32_t* chosen) {
        if (router.hash != nullptr) {
            std::copy_n(router.hash + token * router.n_used, router.n_used, chosen);
            return;
        }
        std::vector<float> key;
        for (std::size_t e = 0; e < p.size(); ++e) {
            key.push_back(static_cast<float>(p[e]) + (router.bias ? router.bias.data[e] : 0.0F));
        }
        std::vector<std::int32_t> order(p.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](std::int32_t a, std::int32_t b) { return key[a] > key[b]; });
        std::copy_n(order.begin(), router.n_used, chosen);
    }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() {
    return std::make_unique<Reference>();
}

}  // namespace ds4
