#include "attention_case.h"

// Checks and times attention on matrix units on the shapes of Flash: both forms against the shared body on
// the same GPU and rows against themselves in other company, then medians of graph replays. Ends with a
// table; the exit status says whether everything was right. With the argument "check": checks only.
namespace ds4::gpu::bench {
namespace {

constexpr double kLimit = 1e-3;  // of the relative error; attention.cu states the roundings

struct Line {
    std::string name;
    std::uint32_t rows;
    double flops, seconds;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), std::min(a.size(), b.size()) * sizeof(float)) == 0;
}

class Report {
  public:
    void checked(const std::string& name, const AttentionCase& c, std::uint32_t rows) {
        const std::uint32_t most = std::min(rows, AttentionCase::kMostSplit);
        const auto whole = c.output(rows, [&] { c.launch_whole(rows, nullptr); });
        const auto split = c.output(most, [&] { c.launch_split(most, nullptr); });
        const auto oracle = c.oracle();
        const double of_whole = relative_error(whole, oracle);
        const double of_split =
            relative_error(split, std::vector<float>(oracle.begin(), oracle.begin() + split.size()));
        const bool kept = same_bits(c.output(1, [&] { c.launch_split(1, nullptr); }), split) &&
                          same_bits(c.output(1, [&] { c.launch_whole(1, nullptr); }), whole);
        const bool good = of_whole <= kLimit && of_split <= kLimit && kept;
        std::printf("check %s, %u rows: error whole %.2e, split %.2e (limit %.0e), bits %s%s\n", name.c_str(),
                    rows, of_whole, of_split, kLimit, kept ? "kept" : "CHANGED", good ? "" : "  <-- WRONG");
        std::fflush(stdout);
        if (!good) ++failures_;
    }
    void timed(const std::string& name, const AttentionCase& c, std::uint32_t rows) {
        const bool splits = rows <= AttentionCase::kMostSplit;
        const double s = seconds_a_launch(splits ? 20 : 3, [&](int, cudaStream_t stream) {
            splits ? c.launch_split(rows, stream) : c.launch_whole(rows, stream);
        });
        lines_.push_back({name, rows, c.flops(), s});
    }
    void print() const {
        std::printf("\n%-40s %5s %9s %9s %8s\n", "attention of a layer", "rows", "GFLOP", "us", "TFLOP/s");
        for (const Line& l : lines_) {
            std::printf("%-40s %5u %9.3f %9.1f %8.1f\n", l.name.c_str(), l.rows, l.flops / 1e9,
                        l.seconds * 1e6, l.flops / l.seconds / 1e12);
        }
    }
    int status() const { return failures_ == 0 ? 0 : 1; }

  private:
    std::vector<Line> lines_;
    int failures_ = 0;
};

std::string name_of(const AttentionShape& s) {
    const std::string form = s.decodes ? "decode" : "prefill";
    return form + " at " + std::to_string(s.depth) + ", ratio " + std::to_string(s.ratio);
}

// Beginnings, unfilled pieces and selections, a window across the start of the batch, all row formats.
void check_edges(Report& report) {
    for (const AttentionShape& s :
         {AttentionShape{70, false, 0, 4, 0}, AttentionShape{70, false, 37, 0, 0},
          AttentionShape{150, false, 1001, 128, 0}, AttentionShape{5, true, 777, 4, 2},
          AttentionShape{5, true, 2050, 4, 3}, AttentionShape{5, true, 5, 4, 0}}) {
        report.checked(name_of(s) + ", format " + std::to_string(s.format), AttentionCase(s), s.n_rows);
    }
}

void run(Report& report, bool times) {
    check_edges(report);
    const auto both = [&](const AttentionShape& s) {
        const AttentionCase c(s);
        report.checked(name_of(s), c, s.n_rows);
        if (times) report.timed(name_of(s), c, s.n_rows);
    };
    for (const std::uint32_t rows : {1u, 16u}) {
        for (const std::uint32_t depth : {2047u, 32767u}) {
            for (const std::uint32_t ratio : {0u, 4u, 128u}) both({rows, true, depth, ratio, 0});
        }
    }
    for (const std::uint32_t depth : {2048u, 8192u, 32768u}) {
        for (const std::uint32_t ratio : {0u, 4u, 128u}) both({2048, false, depth, ratio, 0});
    }
    if (times) report.print();
}

}  // namespace
}  // namespace ds4::gpu::bench

int main(int argc, char** argv) {
    using namespace ds4::gpu::bench;
    try {
        Report report;
        run(report, argc < 2 || std::string(argv[1]) != "check");
        return report.status();
    } catch (const std::exception& e) {
        std::printf("%s\n", e.what());
        return 1;
    }
}
