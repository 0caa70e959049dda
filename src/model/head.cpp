#include "model/head.h"

#include <algorithm>

namespace ds4 {

void head_logits(Backend& backend, const Config& config, const HyperConnection& hc, const Vector& norm,
                 const Matrix& output, Workspace& work, Rows streams, float* host) {
    for (std::int64_t done = 0; done < streams.n;) {
        const std::int64_t count = std::min(streams.n - done, work.logits.n);
        const Rows h = Workspace::take(work.x, count);
        const Rows logits = Workspace::take(work.logits, count);
        backend.hc_head(hc, streams.slice(done, count), h);
        backend.rms_norm(h, norm, config.hidden, config.rms_eps, h);
        backend.matmul(output, h, logits);
        backend.download(host + done * config.vocab, logits.data,
                         static_cast<std::size_t>(count * config.vocab) * sizeof(float));
        done += count;
    }
}

}  // namespace ds4
