#include <memory>

#include "experts_case.h"
#include "rows_case.h"

// Checks and times the matrix families of the CUDA backend on the shapes of Flash: every kernel against f64
// from the file's blocks, rows against themselves in other company, then medians of graph replays over
// weights that do not fit the cache. Ends with a table; the exit status says whether everything was right.
namespace ds4::gpu::bench {
namespace {

using tiles::Layout;

struct Line {
    std::string name;
    std::uint32_t rows;
    double bytes, seconds;
    std::string note;
};

class Report {
  public:
    void add(std::string name, std::uint32_t rows, double bytes, double seconds, std::string note = "") {
        std::printf("timed %s, %u rows: %.2f us\n", name.c_str(), rows, seconds * 1e6);
        std::fflush(stdout);
        lines_.push_back({std::move(name), rows, bytes, seconds, std::move(note)});
    }
    // Prints the outcome of a check and returns it for the table.
    std::string checked(const std::string& name, double error, double limit, bool same_bits) {
        const bool good = error <= limit && same_bits;
        std::printf("check %s: error %.2e (limit %.0e), bits %s%s\n", name.c_str(), error, limit,
                    same_bits ? "kept" : "CHANGED", good ? "" : "  <-- WRONG");
        std::fflush(stdout);
        if (!good) ++failures_;
        char note[64];
        std::snprintf(note, sizeof note, "%s %.1e", good ? "right" : "WRONG", error);
        return note;
    }
    int print(double ceiling) const {
        std::printf("\nread ceiling %.0f GB/s\n%-34s %5s %9s %9s %8s %6s  %s\n", ceiling, "kernel", "rows",
                    "MB", "us", "GB/s", "share", "check");
        for (const Line& l : lines_) {
            const double rate = l.bytes / l.seconds / 1e9;
            std::printf("%-34s %5u %9.2f %9.2f %8.0f %5.0f%%  %s\n", l.name.c_str(), l.rows, l.bytes / 1e6,
                        l.seconds * 1e6, rate, 100 * rate / ceiling, l.note.c_str());
        }
        return failures_ == 0 ? 0 : 1;
    }

    int failures() const { return failures_; }

  private:
    std::vector<Line> lines_;
    int failures_ = 0;
};

void time_rows(Report& report, RowsCase& c, double limit, const std::vector<std::uint32_t>& rows) {
    std::string note = report.checked(c.name(), c.error(), limit, c.rows_keep_their_bits());
    for (const std::uint32_t n : rows) {
        const double s =
            seconds_a_launch(c.n_copies(), [&](int i, cudaStream_t stream) { c.launch(0, n, i, stream); });
        report.add(c.name(), n, c.bytes(), s, std::exchange(note, ""));
    }
}

void time_experts(Report& report, ExpertsCase& c, const std::string& gate_up, const std::string& down,
                  const std::vector<std::uint32_t>& rows) {
    const auto g = c.check_gate_up();
    std::string note = report.checked(gate_up, g.error, 2e-2, g.rows_keep_their_bits);
    const auto d = c.check_down();
    std::string down_note = report.checked(down, d.error, 2e-5, d.rows_keep_their_bits);
    for (const std::uint32_t n : rows) {
        report.add(gate_up, n, c.gate_up_bytes(n),
                   seconds_a_launch(ExpertsCase::kLists,
                                    [&](int i, cudaStream_t stream) { c.launch_gate_up(n, i, stream); }),
                   std::exchange(note, ""));
    }
    for (const std::uint32_t n : rows) {
        report.add(down, n, c.down_bytes(n),
                   seconds_a_launch(ExpertsCase::kLists,
                                    [&](int i, cudaStream_t stream) { c.launch_down(n, i, stream); }),
                   std::exchange(down_note, ""));
    }
}

using Specs = std::vector<MatrixSpec>;
const MatrixSpec kQA{Layout::q8_0, 1024}, kKv{Layout::q8_0, 512};

std::unique_ptr<RowsCase> rows_case(const char* name, std::uint32_t n_in, std::uint32_t groups,
                                    RowsInput input, Specs specs, double total_bytes = 0.75e9) {
    return std::make_unique<RowsCase>(name, n_in, groups, input, std::move(specs), total_bytes);
}

// Everything but the timing, on fewer bytes: for the memory and race checkers.
int run_checks() {
    Report report;
    const auto one = [&](std::unique_ptr<RowsCase> c, double limit) {
        report.checked(c->name(), c->error(), limit, c->rows_keep_their_bits());
    };
    one(rows_case("F16 and Q8_0 of one x", 4096, 1, RowsInput::act, {{Layout::f16, 264}, kKv}, 1e6), 2e-5);
    one(rows_case("norm on the way in", 1024, 1, RowsInput::norm, {{Layout::f16, 256}, {Layout::q8_0, 4096}},
                  1e6),
        2e-3);
    one(rows_case("groups, act out", 4096, 8, RowsInput::act, {{Layout::q8_0, 2048, RowsOutput::act}}, 1e6),
        9e-3);
    one(rows_case("SwiGLU", 4096, 1, RowsInput::f32, {{Layout::q8_0, 512, RowsOutput::swiglu}}, 1e6), 2e-5);
    ExpertsCase experts(Layout::iq2_xxs, Layout::q2_k);
    const auto gate_up = experts.check_gate_up(), down = experts.check_down();
    report.checked("gate+up, IQ2_XXS", gate_up.error, 2e-2, gate_up.rows_keep_their_bits);
    report.checked("down, Q2_K", down.error, 2e-5, down.rows_keep_their_bits);
    return report.failures() == 0 ? 0 : 1;
}

int run() {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "device");
    std::printf("%s, %d multiprocessors, %.0f MB of L2\n", properties.name, properties.multiProcessorCount,
                static_cast<double>(properties.l2CacheSize) / 1e6);
    Report report;
    const double ceiling = read_bandwidth();
    std::printf("read ceiling %.0f GB/s\n", ceiling);

    auto b_csa = rows_case("B: all from x, CSA", 4096, 1, RowsInput::act,
                           {{Layout::f16, 1024},
                            {Layout::f16, 1024},
                            {Layout::f16, 256},
                            {Layout::f16, 256},
                            {Layout::f16, 64},
                            kQA,
                            kKv});
    auto c = rows_case("C: q_b, norm on the way in", 1024, 1, RowsInput::norm, {{Layout::q8_0, 32768}});
    auto f = rows_case("F: o_a, 8 groups, act out", 4096, 8, RowsInput::act,
                       {{Layout::q8_0, 8192, RowsOutput::act}});
    auto g = rows_case("G: o_b", 8192, 1, RowsInput::act, {{Layout::q8_0, 4096}});
    auto i = rows_case("I: router, shared gate+up", 4096, 1, RowsInput::act,
                       {{Layout::f16, 256}, {Layout::q8_0, 2048, RowsOutput::swiglu}});
    const std::vector<std::uint32_t> all = {1, 2, 4, 8, 16}, few = {1, 8, 16};
    time_rows(report, *b_csa, 2e-5, all);
    time_rows(report, *c, 2e-3, all);
    time_rows(report, *f, 9e-3, few);
    time_rows(report, *g, 2e-5, all);
    time_rows(report, *i, 2e-5, few);
    time_rows(report, *rows_case("q_a alone", 4096, 1, RowsInput::act, {kQA}), 2e-5, {1});
    time_rows(report, *rows_case("kv alone", 4096, 1, RowsInput::act, {kKv}), 2e-5, {1});
    time_rows(
        report,
        *rows_case("B: HCA", 4096, 1, RowsInput::act, {{Layout::f16, 512}, {Layout::f16, 512}, kQA, kKv}),
        2e-5, {1});
    time_rows(report,
              *rows_case("C: q_b and indexer q_b (F16)", 1024, 1, RowsInput::norm,
                         {{Layout::f16, 8192}, {Layout::q8_0, 32768}}),
              2e-3, {1});
    time_rows(report, *rows_case("shared down alone", 2048, 1, RowsInput::act, {{Layout::q8_0, 4096}}), 2e-5,
              {1});
    time_rows(report, *rows_case("head", 4096, 1, RowsInput::act, {{Layout::q8_0, 129280}}), 2e-5, few);

    ExpertsCase q2(Layout::iq2_xxs, Layout::q2_k);
    time_experts(report, q2, "J: gate+up, IQ2_XXS", "K: down, Q2_K + shared", all);
    for (const std::uint32_t n : {1u, 4u, 16u}) {
        const double bytes = b_csa->bytes() + c->bytes() + f->bytes() + g->bytes() + i->bytes() +
                             q2.gate_up_bytes(n) + q2.down_bytes(n);
        const double s = seconds_a_launch(24, [&](int layer, cudaStream_t stream) {
            b_csa->launch(0, n, layer, stream);
            c->launch(0, n, layer, stream);
            f->launch(0, n, layer, stream);
            g->launch(0, n, layer, stream);
            i->launch(0, n, layer, stream);
            q2.launch_gate_up(n, layer, stream);
            q2.launch_down(n, layer, stream);
        });
        report.add("chain of these 7, CSA layer", n, bytes, s);
    }
    {
        ExpertsCase q4(Layout::q4_k, Layout::q4_k);
        time_experts(report, q4, "J: gate+up, Q4_K", "K: down, Q4_K + shared", {1, 8});
    }
    return report.print(ceiling);
}

}  // namespace
}  // namespace ds4::gpu::bench

// With the argument "check": checks only.
int main(int argc, char** argv) {
    try {
        return argc > 1 && std::string(argv[1]) == "check" ? ds4::gpu::bench::run_checks()
                                                           : ds4::gpu::bench::run();
    } catch (const std::exception& e) {
        std::printf("%s\n", e.what());
        return 1;
    }
}
