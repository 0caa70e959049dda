#include "model/head.h"

#include <algorithm>
#include <array>
#include <vector>

namespace ds4 {
namespace {

// How many of these rows lie next to each other in the streams.
std::int64_t run_length(std::span<const HeadRow> rows) {
    std::size_t n = 1;
    while (n < rows.size() && rows[n].row == rows[0].row + static_cast<std::int64_t>(n)) ++n;
    return static_cast<std::int64_t>(n);
}

void download_best(Backend& backend, const std::int32_t* best, std::span<const HeadRow> rows) {
    std::array<std::int32_t, Workspace::kHeadRows> host{};
    backend.download(host.data(), best, rows.size() * sizeof(std::int32_t));
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (rows[i].best != nullptr) *rows[i].best = host[i];
    }
}

}  // namespace

void head_logits(Backend& backend, const Config& config, const HyperConnection& hc, const Vector& norm,
                 const Matrix& output, Workspace& work, Rows streams, std::span<const HeadRow> rows) {
    backend.begin_rows({});  // few rows, wherever they come from
    while (!rows.empty()) {
        const auto part = rows.first(std::min(rows.size(), static_cast<std::size_t>(work.logits.n)));
        rows = rows.subspan(part.size());
        const auto count = static_cast<std::int64_t>(part.size());
        const Rows h = Workspace::take(work.x, count);
        const Rows logits = Workspace::take(work.logits, count);
        for (std::int64_t done = 0; done < count;) {
            const auto left = part.subspan(static_cast<std::size_t>(done));
            const std::int64_t n = run_length(left);
            backend.hc_head(hc, streams.slice(left[0].row, n), h.slice(done, n));
            done += n;
        }
        backend.rms_norm(h, norm, config.hidden, config.rms_eps, h);
        backend.matmul(output, h, logits);
        const bool wants_best =
            std::any_of(part.begin(), part.end(), [](const HeadRow& r) { return r.best; });
        if (wants_best) backend.arg_max(logits, work.best);
        for (std::int64_t i = 0; i < count; ++i) {
            float* const host = part[static_cast<std::size_t>(i)].host;
            if (host == nullptr) continue;
            backend.download(host, logits.row(i), static_cast<std::size_t>(config.vocab) * sizeof(float));
        }
        if (wants_best) download_best(backend, work.best, part);
    }
}

void head_logits(Backend& backend, const Config& config, const HyperConnection& hc, const Vector& norm,
                 const Matrix& output, Workspace& work, Rows streams, float* host) {
    std::vector<HeadRow> rows(static_cast<std::size_t>(streams.n));
    for (std::int64_t i = 0; i < streams.n; ++i)
        rows[static_cast<std::size_t>(i)] = {i, host + i * config.vocab, nullptr};
    head_logits(backend, config, hc, norm, output, work, streams, rows);
}

}  // namespace ds4
