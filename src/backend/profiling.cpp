#include "backend/profiling.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace ds4 {
namespace {

double as_double(std::int64_t n) {
    return static_cast<double>(n);
}

double bytes_of(const Rows& rows) {
    return as_double(rows.n * rows.width) * sizeof(float);
}

double bytes_of(const Matrix& m) {
    return static_cast<double>(m.row_bytes) * as_double(m.n_out * m.stack);
}

double products(const Matrix& m, std::int64_t n_rows) {
    return 2 * as_double(n_rows) * as_double(m.n_in) * as_double(m.n_out);
}

// Share of the experts that n_rows rows hit on average.
double hit_share(const Routing& routing, std::int64_t n_rows, std::int64_t n_experts) {
    const double share = as_double(routing.n_used) / as_double(n_experts);
    return 1 - std::pow(1 - share, as_double(n_rows));
}

// Sum over a segment's rows of min(position + 1 over ratio, most).
double sum_visible(const Segment& s, std::int64_t ratio, double most) {
    double sum = 0;
    for (std::int64_t p = s.start; p < s.start + s.n_rows; ++p)
        sum += std::min(as_double((p + 1) / ratio), most);
    return sum;
}

std::string text_of(std::string_view operation, const Matrix* matrix) {
    std::string text(operation);
    if (matrix == nullptr) return text;
    return text.append(" ")
        .append(quant::format(matrix->type).name)
        .append(" ")
        .append(std::to_string(matrix->n_in))
        .append(" x ")
        .append(std::to_string(matrix->n_out));
}

}  // namespace

std::vector<OpProfile> ProfilingBackend::take() {
    index_.clear();
    return std::exchange(lines_, {});
}

OpProfile& ProfilingBackend::line(std::string_view operation, const Matrix* matrix) {
    const Matrix none;
    const Matrix& m = matrix != nullptr ? *matrix : none;
    const auto [found, is_new] =
        index_.try_emplace(Key{section_, operation, m.type, m.n_in, m.n_out}, lines_.size());
    if (is_new) lines_.push_back({std::string(section_), text_of(operation, matrix)});
    return lines_[found->second];
}

template <class Call>
void ProfilingBackend::measure(std::string_view operation, const Matrix* matrix, const Work& work,
                               const Call& call) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    call();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    OpProfile& profile = line(operation, matrix);
    ++profile.calls;
    profile.seconds += seconds;
    profile.bytes += work.bytes;
    profile.ops += work.ops;
}

void ProfilingBackend::matmul(const Matrix& w, Rows x, Rows y) {
    const Work work{bytes_of(w) + bytes_of(x) + bytes_of(y), products(w, x.n)};
    measure("matmul", &w, work, [&] { backend_->matmul(w, x, y); });
}

void ProfilingBackend::grouped_matmul(const Matrix& w, std::int64_t n_groups, Rows x, Rows y) {
    const Work work{bytes_of(w) + bytes_of(x) + bytes_of(y), products(w, x.n)};
    measure("grouped matmul", &w, work, [&] { backend_->grouped_matmul(w, n_groups, x, y); });
}

void ProfilingBackend::rms_norm(Rows x, const Vector& w, std::int64_t width, float eps, Rows y) {
    const Work work{bytes_of(x) + bytes_of(y)};
    measure("rms norm", nullptr, work, [&] { backend_->rms_norm(x, w, width, eps, y); });
}

void ProfilingBackend::add(Rows x, Rows y) {
    const Work work{bytes_of(x) + 2 * bytes_of(y)};
    measure("add", nullptr, work, [&] { backend_->add(x, y); });
}

void ProfilingBackend::arg_max(Rows x, std::int32_t* best) {
    measure("best of rows", nullptr, Work{bytes_of(x)}, [&] { backend_->arg_max(x, best); });
}

void ProfilingBackend::embed(const Matrix& table, std::span<const TokenId> tokens, std::int64_t n_streams,
                             Rows streams) {
    const Work work{static_cast<double>(table.row_bytes * tokens.size()) + bytes_of(streams)};
    measure("embed", nullptr, work, [&] { backend_->embed(table, tokens, n_streams, streams); });
}

void ProfilingBackend::hc_collapse(const HyperConnection& hc, Rows streams, Rows x, Rows post, Rows comb) {
    const Work work{bytes_of(hc.fn) + 2 * bytes_of(streams) + bytes_of(x), products(hc.fn, streams.n)};
    measure("hc collapse", nullptr, work, [&] { backend_->hc_collapse(hc, streams, x, post, comb); });
}

void ProfilingBackend::hc_expand(Rows y, Rows post, Rows comb, Rows streams) {
    const Work work{2 * bytes_of(streams) + bytes_of(y)};
    measure("hc expand", nullptr, work, [&] { backend_->hc_expand(y, post, comb, streams); });
}

void ProfilingBackend::hc_head(const HyperConnection& hc, Rows streams, Rows x) {
    const Work work{bytes_of(hc.fn) + 2 * bytes_of(streams) + bytes_of(x), products(hc.fn, streams.n)};
    measure("hc head", nullptr, work, [&] { backend_->hc_head(hc, streams, x); });
}

void ProfilingBackend::rope(const Rope& rope, std::span<const std::int32_t> positions, std::int64_t head_dim,
                            bool inverse, Rows x) {
    const Work work{2 * bytes_of(x) * as_double(rope.n_dims) / as_double(head_dim)};
    measure("rope", nullptr, work, [&] { backend_->rope(rope, positions, head_dim, inverse, x); });
}

void ProfilingBackend::round_fp8(Rows x, std::int64_t n_tail, bool tail_to_f16) {
    measure("round fp8", nullptr, {2 * bytes_of(x)}, [&] { backend_->round_fp8(x, n_tail, tail_to_f16); });
}

void ProfilingBackend::round_hadamard_fp4(Rows x, std::int64_t head_dim) {
    measure("round hadamard fp4", nullptr, {2 * bytes_of(x)},
            [&] { backend_->round_hadamard_fp4(x, head_dim); });
}

void ProfilingBackend::compress(const Compressor& compressor, const BatchRows& batch,
                                std::span<const LayerHistory> history, bool of_indexer, Rows value,
                                Rows score) {
    const Work work{2 * (bytes_of(value) + bytes_of(score))};
    measure(of_indexer ? "compress, indexer" : "compress", nullptr, work,
            [&] { backend_->compress(compressor, batch, history, of_indexer, value, score); });
}

void ProfilingBackend::select_rows(const BatchRows& batch, std::span<const LayerHistory> history, Rows q,
                                   Rows weight, std::int64_t head_dim, const Selection& selection) {
    Work work;
    for (std::size_t i = 0; i < batch.segments.size(); ++i) {
        const Segment& s = batch.segments[i];
        const std::int64_t exist = (s.start + s.n_rows) / 4;
        if (exist <= selection.capacity) continue;  // all are taken unseen
        work.bytes += as_double(exist) * static_cast<double>(history[i].indexer.format.bytes);
        work.ops += 2 * as_double(q.width) * sum_visible(s, 4, HUGE_VAL);
    }
    measure("select rows", nullptr, work,
            [&] { backend_->select_rows(batch, history, q, weight, head_dim, selection); });
}

void ProfilingBackend::attention(const Attention& attention, const BatchRows& batch,
                                 std::span<const LayerHistory> history, const Selection& selection, Rows q,
                                 Rows kv, Rows out) {
    Work work{bytes_of(q) + bytes_of(kv) + bytes_of(out)};
    const double most = selection.rows != nullptr ? as_double(selection.capacity) : HUGE_VAL;
    for (std::size_t i = 0; i < batch.segments.size(); ++i) {
        const Segment& s = batch.segments[i];
        double rows = sum_visible(s, 1, as_double(attention.window));
        work.bytes += as_double(std::min(attention.window, s.start) * attention.head_dim) * sizeof(float);
        if (attention.ratio != 0) {
            const double selected = sum_visible(s, attention.ratio, most);
            const double exist = as_double((s.start + s.n_rows) / attention.ratio);
            work.bytes += std::min(selected, exist) * static_cast<double>(history[i].compressed.format.bytes);
            rows += selected;
        }
        work.ops += 2 * 2 * rows * as_double(q.width);  // scores and sums
    }
    measure("attention", nullptr, work,
            [&] { backend_->attention(attention, batch, history, selection, q, kv, out); });
}

void ProfilingBackend::store_window(const BatchRows& batch, std::span<const LayerHistory> history, Rows kv) {
    measure("store window", nullptr, {2 * bytes_of(kv)}, [&] { backend_->store_window(batch, history, kv); });
}

void ProfilingBackend::route(const Router& router, std::span<const TokenId> tokens, Rows logits,
                             const Routing& out) {
    measure("route", nullptr, {bytes_of(logits)}, [&] { backend_->route(router, tokens, logits, out); });
}

ProfilingBackend::Work ProfilingBackend::work_of(const Experts& experts, const Routing& routing, Rows x,
                                                 Rows y) {
    Work work{bytes_of(x) + bytes_of(y)};
    for (const Matrix* m : {&experts.gate, &experts.up, &experts.down}) {
        work.bytes += bytes_of(*m) * hit_share(routing, x.n, m->stack);
        work.ops += products(*m, x.n * routing.n_used);
    }
    return work;
}

void ProfilingBackend::routed_experts(const Experts& experts, const Routing& routing, Rows x, Rows y) {
    const Work work = work_of(experts, routing, x, y);
    measure("routed experts", &experts.gate, work, [&] { backend_->routed_experts(experts, routing, x, y); });
}

void ProfilingBackend::swiglu(Rows gate, Rows up, float clamp) {
    const Work work{2 * bytes_of(gate) + bytes_of(up)};
    measure("swiglu", nullptr, work, [&] { backend_->swiglu(gate, up, clamp); });
}

// The parts are measured one by one where the backend has no form of its own for the whole.
void ProfilingBackend::gated_matmul(const Experts& shared, Rows x, Rows scratch, Rows act) {
    if (shared.gate.data != nullptr) return Backend::gated_matmul(shared, x, scratch, act);
    const Work work{bytes_of(shared.gate) + bytes_of(shared.up) + bytes_of(x) + bytes_of(act),
                    2 * products(shared.gate, x.n)};
    measure("gated matmul", &shared.gate, work, [&] { backend_->gated_matmul(shared, x, scratch, act); });
}

void ProfilingBackend::mixture(const Experts& routed, const Routing& routing, Rows x, const Experts& shared,
                               Rows act, Rows scratch, Rows y) {
    if (shared.gate.data != nullptr) {
        return Backend::mixture(routed, routing, x, shared, act, scratch, y);
    }
    Work work = work_of(routed, routing, x, y);
    work.bytes += bytes_of(shared.down) + bytes_of(act);
    work.ops += products(shared.down, x.n);
    measure("mixture", &routed.gate, work,
            [&] { backend_->mixture(routed, routing, x, shared, act, scratch, y); });
}

}  // namespace ds4
