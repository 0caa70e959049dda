#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/ptx.h"
#include "streams_case.h"

// Checks and times hyper-connections on the shapes of Flash: against the shared body on the same GPU, rows
// against themselves in other company, a chain of dependent launches against one that waits after each; then
// medians of graph replays. Ends with a table; the exit status says whether everything was right. With the
// argument "check": checks only.
namespace ds4::gpu::bench {
namespace {

// Of the relative error: the order of sums differs, and products with prompts' rows cut off sums in the
// matrix units. A weight left out shows at 1e-3 and more.
constexpr double kLimit = 1e-5;

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
bool same_bits(const SiteResult& a, const SiteResult& b) {
    return same_bits(a.x, b.x) && same_bits(a.streams, b.streams) && same_bits(a.post, b.post) &&
           same_bits(a.comb, b.comb);
}

template <class F>
SiteResult after(const StreamsCase& c, const F& launch) {
    c.reset();
    check(cudaDeviceSynchronize(), "reset");
    launch();
    return c.result();
}

// Fills the GPU for some microseconds, as the products before a site do: nothing can begin beside it.
__global__ void __launch_bounds__(1024, 2) busy_kernel(long long cycles) {
    cuda::wait_for_predecessor();
    cuda::release_dependents();
    const long long begin = clock64();
    while (clock64() - begin < cycles) {
    }
}
void launch_busy(cudaStream_t stream) {
    constexpr long long kCycles = 9000;
    check(
        cuda::launch(&busy_kernel, dim3(2 * cuda::device_shape().multiprocessors), 1024, 0, stream, kCycles),
        "busy");
}

struct Line {
    std::string name;
    std::uint32_t rows;
    double seconds, bytes;
};

class Report {
  public:
    void compared(const std::string& name, const SiteResult& a, const SiteResult& b) {
        const double x = relative_error(a.x, b.x), streams = relative_error(a.streams, b.streams);
        const double post = relative_error(a.post, b.post), comb = relative_error(a.comb, b.comb);
        const bool good = x <= kLimit && streams <= kLimit && post <= kLimit && comb <= kLimit;
        std::printf("check %s: x %.1e, streams %.1e, post %.1e, comb %.1e (limit %.0e)", name.c_str(), x,
                    streams, post, comb, kLimit);
        end(good);
    }
    void kept(const std::string& name, bool same) {
        std::printf("check %s: bits %s", name.c_str(), same ? "kept" : "CHANGED");
        end(same);
    }
    void timed(const std::string& name, std::uint32_t rows, double seconds, double bytes) {
        lines_.push_back({name, rows, seconds, bytes});
    }
    void print() const {
        std::printf("\n%-56s %5s %9s %9s\n", "a site of hyper-connections", "rows", "us", "GB/s");
        for (const Line& l : lines_)
            std::printf("%-56s %5u %9.2f %9.0f\n", l.name.c_str(), l.rows, l.seconds * 1e6,
                        l.bytes / l.seconds / 1e9);
    }
    int status() const { return failures_ == 0 ? 0 : 1; }

  private:
    void end(bool good) {
        std::printf("%s\n", good ? "" : "  <-- WRONG");
        std::fflush(stdout);
        if (!good) ++failures_;
    }

    std::vector<Line> lines_;
    int failures_ = 0;
};

std::string name_of(const StreamsShape& s) {
    const std::string type = s.type == FnType::f32 ? "F32" : s.type == FnType::f16 ? "F16" : "BF16";
    return type + (s.n_mix == kStreams ? ", head" : "") + (s.expands ? "" : ", nothing to expand");
}

void check_generated(Report& report, const StreamsShape& shape) {
    const StreamsCase c(shape);
    const std::string name = "generated, " + name_of(shape);
    const SiteResult all = after(c, [&] { c.launch_site(0, 0, shape.n_rows, nullptr); });
    report.compared(name, all, after(c, [&] { c.launch_plain(); }));
    report.kept(name + ", rows alone", same_bits(all, after(c, [&] {
                                                     for (std::uint32_t row = 0; row < shape.n_rows; ++row)
                                                         c.launch_site(0, row, 1, nullptr);
                                                 })));
}

void check_prompts(Report& report, const StreamsShape& shape) {
    const StreamsCase c(shape);
    const std::string name = "prompt, " + name_of(shape);
    const auto run = [&](std::uint32_t first, std::uint32_t n) {
        c.launch_dots(0, first, n, nullptr);
        c.launch_mix(first, n, nullptr);
    };
    const SiteResult all = after(c, [&] { run(0, shape.n_rows); });
    report.compared(name, all, after(c, [&] { c.launch_plain(); }));
    report.kept(name + ", cut in three", same_bits(all, after(c, [&] {
                                                       run(0, 1);
                                                       run(1, 36);
                                                       run(37, shape.n_rows - 37);
                                                   })));
}

// Site after site, each with what the last one left.
void check_chain(Report& report, bool is_prompt) {
    constexpr std::uint32_t kSites = 12;
    StreamsShape shape{is_prompt ? 200u : 3u};
    shape.n_sites = kSites;
    const StreamsCase c(shape);
    const auto run = [&](bool waits) {
        for (std::uint32_t site = 0; site < kSites; ++site) {
            if (is_prompt) {
                c.launch_dots(site, 0, shape.n_rows, nullptr);
                if (waits) check(cudaDeviceSynchronize(), "dots");
                c.launch_mix(0, shape.n_rows, nullptr);
            } else {
                c.launch_site(site, 0, shape.n_rows, nullptr);
            }
            if (waits) check(cudaDeviceSynchronize(), "site");
        }
    };
    report.kept(is_prompt ? "prompt, dependent launches" : "generated, dependent launches",
                same_bits(after(c, [&] { run(false); }), after(c, [&] { run(true); })));
}

void check_all(Report& report) {
    for (const FnType type : {FnType::f16, FnType::bf16, FnType::f32}) {
        check_generated(report, {37, type});
        check_prompts(report, {203, type});
    }
    for (const std::uint32_t n_mix : {kMixes, kStreams}) {
        check_generated(report, {5, FnType::f16, n_mix, n_mix == kStreams});
        check_prompts(report, {100, FnType::f16, n_mix, n_mix == kStreams});
    }
    check_chain(report, false);
    check_chain(report, true);
}

void time_generated(Report& report, std::uint32_t rows, FnType type) {
    constexpr std::uint32_t kSites = 86;  // of a token: their weights are more than the cache holds
    StreamsShape shape{rows, type};
    shape.n_sites = kSites;
    const StreamsCase c(shape);
    const double s = seconds_a_launch(kSites, [&](int i, cudaStream_t stream) {
        c.launch_site(static_cast<std::uint32_t>(i), 0, rows, stream);
    });
    const double fn = kMixes * kStreams * kWidth * (type == FnType::f32 ? 4.0 : 2.0);
    const std::string name = "generated, " + name_of(shape);
    report.timed(name + ", site after site", rows, s, fn + c.prompt_bytes());
    const double busy = seconds_a_launch(kSites, [](int, cudaStream_t stream) { launch_busy(stream); });
    const double pair = seconds_a_launch(kSites, [&](int i, cudaStream_t stream) {
        launch_busy(stream);
        c.launch_site(static_cast<std::uint32_t>(i), 0, rows, stream);
    });
    report.timed(name + ", added to a busy kernel", rows, pair - busy, fn + c.prompt_bytes());
}

void time_prompts(Report& report, std::uint32_t rows, FnType type) {
    const StreamsShape shape{rows, type};
    const StreamsCase c(shape);
    const std::string name = "prompt, " + name_of(shape);
    const double row = 4.0 * rows * kWidth;
    const auto both = [&](int, cudaStream_t stream) {
        c.launch_dots(0, 0, rows, stream);
        c.launch_mix(0, rows, stream);
    };
    const auto dots = [&](int, cudaStream_t stream) { c.launch_dots(0, 0, rows, stream); };
    const auto mix = [&](int, cudaStream_t stream) { c.launch_mix(0, rows, stream); };
    report.timed(name + ": both", rows, seconds_a_launch(10, both), c.prompt_bytes());
    // What the first pass wrote may still be in the cache then.
    constexpr std::uint32_t kPart = 512;
    const auto in_parts = [&](int, cudaStream_t stream) {
        for (std::uint32_t first = 0; first < rows; first += kPart) {
            c.launch_dots(0, first, kPart, stream);
            c.launch_mix(first, kPart, stream);
        }
    };
    report.timed(name + ": both, 512 rows at a time", rows, seconds_a_launch(10, in_parts), c.prompt_bytes());
    report.timed(name + ": expansion and products", rows, seconds_a_launch(10, dots),
                 row * (2 * kStreams + 1));
    report.timed(name + ": collapse and norm", rows, seconds_a_launch(10, mix), row * (kStreams + 1));
}

void time_all(Report& report) {
    for (const std::uint32_t rows : {1u, 4u, 16u, 64u}) time_generated(report, rows, FnType::f16);
    time_generated(report, 1, FnType::f32);
    for (const std::uint32_t rows : {512u, 2048u, 4096u}) time_prompts(report, rows, FnType::f16);
    time_prompts(report, 2048, FnType::f32);
    report.print();
}

}  // namespace
}  // namespace ds4::gpu::bench

int main(int argc, char** argv) {
    using namespace ds4::gpu::bench;
    try {
        Report report;
        check_all(report);
        if (argc < 2 || std::string(argv[1]) != "check") time_all(report);
        return report.status();
    } catch (const std::exception& e) {
        std::printf("%s\n", e.what());
        return 1;
    }
}
