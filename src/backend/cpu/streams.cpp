#include "backend/cpu/streams.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/grain.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/vector.h"

namespace ds4::cpu {
namespace {

constexpr std::int64_t kMaxStreams = 16;  // the most that the model's configuration may have

double sigmoid(double x) {
    return 1.0 / (1.0 + std::exp(-x));
}

// One row's mixing weights: few values, so they are computed in double.
class Mixing {
  public:
    // mix (M * (2 + M)) or, at the head, (M): the products with fn before the norm, whose factor is rho.
    Mixing(const HyperConnection& hc, const float* mix, float rho) : hc_(hc), mix_(mix), rho_(rho) {}

    void pre(float* out) const {
        for (std::int64_t m = 0; m < hc_.n_streams; ++m) {
            out[m] = static_cast<float>(sigmoid(affine(m, 0)) + static_cast<double>(hc_.eps));
        }
    }

    void post(float* out) const {
        for (std::int64_t m = 0; m < hc_.n_streams; ++m) {
            out[m] = static_cast<float>(2 * sigmoid(affine(hc_.n_streams + m, 1)));
        }
    }

    // Softmax over each row, then Sinkhorn: columns first, then rows and columns in turn.
    void comb(float* out) const {
        const std::int64_t m = hc_.n_streams;
        double c[kMaxStreams * kMaxStreams];
        for (std::int64_t j = 0; j < m; ++j) softmax_row(j, c + j * m);
        normalise(c, 1, m);
        for (int i = 1; i < hc_.sinkhorn_iterations; ++i) {
            normalise(c, m, 1);
            normalise(c, 1, m);
        }
        for (std::int64_t i = 0; i < m * m; ++i) out[i] = static_cast<float>(c[i]);
    }

  private:
    double affine(std::int64_t k, std::int64_t part) const {
        const double mix = static_cast<double>(rho_) * static_cast<double>(mix_[k]);
        return mix * static_cast<double>(hc_.scale.data[part]) + static_cast<double>(hc_.base.data[k]);
    }

    void softmax_row(std::int64_t j, double* row) const {
        const std::int64_t m = hc_.n_streams;
        for (std::int64_t k = 0; k < m; ++k) row[k] = affine(2 * m + j * m + k, 2);
        const double top = *std::max_element(row, row + m);
        double sum = 0;
        for (std::int64_t k = 0; k < m; ++k) sum += row[k] = std::exp(row[k] - top);
        for (std::int64_t k = 0; k < m; ++k) row[k] = row[k] / sum + static_cast<double>(hc_.eps);
    }

    // Divides each line by its sum; entry b of line a is c[a * line + b * step].
    void normalise(double* c, std::int64_t line, std::int64_t step) const {
        for (std::int64_t a = 0; a < hc_.n_streams; ++a) {
            double sum = static_cast<double>(hc_.eps);
            for (std::int64_t b = 0; b < hc_.n_streams; ++b) sum += c[a * line + b * step];
            for (std::int64_t b = 0; b < hc_.n_streams; ++b) c[a * line + b * step] /= sum;
        }
    }

    const HyperConnection& hc_;
    const float* mix_;
    float rho_;
};

}  // namespace

void Streams::collapse(const HyperConnection& hc, Rows streams, Rows x, Rows post, Rows comb) {
    const std::int64_t m = hc.n_streams;
    const bool is_head = hc.fn.n_out == m;
    const Rows mix{mix_.take(static_cast<std::size_t>(streams.n * hc.fn.n_out)), streams.n, hc.fn.n_out};
    matmul_.run(hc.fn, 1, streams, mix);
    const auto n_rows = static_cast<std::size_t>(streams.n);
    pool_.parallel_for(n_rows, grain_for(streams.width), [&](std::size_t begin, std::size_t end) {
        for (auto r = static_cast<std::int64_t>(begin); r < static_cast<std::int64_t>(end); ++r) {
            const Mixing mixing(hc, mix.row(r), inverse_rms(streams.row(r), streams.width, hc.rms_eps));
            float pre[kMaxStreams];
            mixing.pre(pre);
            collapse_streams(pre, streams.row(r), static_cast<std::size_t>(m),
                             static_cast<std::size_t>(x.width), x.row(r));
            if (is_head) continue;
            mixing.post(post.row(r));
            mixing.comb(comb.row(r));
        }
    });
}

void Streams::expand(Rows y, Rows post, Rows comb, Rows streams) {
    const auto n_rows = static_cast<std::size_t>(y.n);
    pool_.parallel_for(n_rows, grain_for(streams.width), [&](std::size_t begin, std::size_t end) {
        for (auto r = static_cast<std::int64_t>(begin); r < static_cast<std::int64_t>(end); ++r) {
            expand_streams(post.row(r), comb.row(r), y.row(r), static_cast<std::size_t>(post.width),
                           static_cast<std::size_t>(y.width), streams.row(r));
        }
    });
}

}  // namespace ds4::cpu
