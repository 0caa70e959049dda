#include "apps/bench/frontiers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "apps/bench/chart.h"

namespace ds4::bench {

std::vector<std::int64_t> Frontiers::list() const {
    std::vector<std::int64_t> contexts;
    for (std::int64_t at = first; at < last;) {
        contexts.push_back(at);
        const double next = factor > 1 ? std::ceil(static_cast<double>(at) * factor)
                                       : static_cast<double>(at) + static_cast<double>(increment);
        at = next >= static_cast<double>(last) ? last : static_cast<std::int64_t>(next);
    }
    contexts.push_back(last);
    return contexts;
}

std::string csv_of(const std::vector<FrontierSpeed>& speeds) {
    std::string out =
        "ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes,"
        "prefill_gbps,prefill_ceiling_tps,gen_gbps,gen_ceiling_tps\n";
    for (const FrontierSpeed& s : speeds) {
        std::array<char, 320> line{};
        std::snprintf(line.data(), line.size(), "%lld,%lld,%.2f,%lld,%.2f,%zu,%.2f,%.2f,%.2f,%.2f\n",
                      static_cast<long long>(s.context), static_cast<long long>(s.prefill.tokens),
                      s.prefill.per_second, static_cast<long long>(s.decode.tokens), s.decode.per_second,
                      s.kv_bytes, s.prefill.bytes_per_second / 1e9, s.prefill.ceiling,
                      s.decode.bytes_per_second / 1e9, s.decode.ceiling);
        out += line.data();
    }
    return out;
}

std::string svg_of(const std::vector<FrontierSpeed>& speeds, const std::string& title) {
    const auto panel = [&](const std::string& name, Speed FrontierSpeed::*phase) {
        Series reached{"reached", "#0b62a4", false, {}};
        Series ceiling{"ceiling", "#b5532a", true, {}};
        for (const FrontierSpeed& s : speeds) {
            reached.points.emplace_back(static_cast<double>(s.context), (s.*phase).per_second);
            ceiling.points.emplace_back(static_cast<double>(s.context), (s.*phase).ceiling);
        }
        return Panel{name + ", tokens/s", {ceiling, reached}};
    };
    const std::array panels = {panel("decode", &FrontierSpeed::decode),
                               panel("prefill", &FrontierSpeed::prefill)};
    return draw_chart(title, "tokens of context", panels);
}

}  // namespace ds4::bench
