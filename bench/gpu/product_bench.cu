#include <memory>

#include "grouped_case.h"
#include "product_case.h"

// Checks and times the products of prefill on the shapes of Flash: against f64 from the file's blocks, rows
// against themselves in other company, then medians of graph replays. Ends with a table; the exit status says
// whether everything was right. With the argument "check": checks only.
namespace ds4::gpu::bench {
namespace {

using tiles::Layout;

constexpr ProductOutput kHalves = ProductOutput::halves, kSwiglu = ProductOutput::swiglu_halves;

struct Line {
    std::string name;
    std::uint32_t rows;
    double flops, seconds;
};

class Report {
  public:
    void checked(const std::string& name, double error, double limit, bool same_bits) {
        const bool good = error <= limit && same_bits;
        std::printf("check %s: error %.2e (limit %.0e), bits %s%s\n", name.c_str(), error, limit,
                    same_bits ? "kept" : "CHANGED", good ? "" : "  <-- WRONG");
        std::fflush(stdout);
        if (!good) ++failures_;
    }
    double time(const std::string& name, std::uint32_t rows, double flops,
                const std::function<void(cudaStream_t)>& launch) {
        const double s = seconds_a_launch(3, [&](int, cudaStream_t stream) { launch(stream); });
        std::printf("timed %s, %u rows: %.1f us\n", name.c_str(), rows, s * 1e6);
        std::fflush(stdout);
        lines_.push_back({name, rows, flops, s});
        return s;
    }
    int print(double ceiling) const {
        std::printf("\nproduct ceiling %.0f TFLOP/s\n%-40s %5s %9s %9s %8s %6s\n", ceiling, "kernel", "rows",
                    "GFLOP", "us", "TFLOP/s", "share");
        for (const Line& l : lines_) {
            const double rate = l.flops / l.seconds / 1e12;
            std::printf("%-40s %5u %9.2f %9.1f %8.1f %5.0f%%\n", l.name.c_str(), l.rows, l.flops / 1e9,
                        l.seconds * 1e6, rate, 100 * rate / ceiling);
        }
        return failures_ == 0 ? 0 : 1;
    }
    int failures() const { return failures_; }

  private:
    std::vector<Line> lines_;
    int failures_ = 0;
};

void check_product(Report& report, ProductCase& c) {
    report.checked(c.name(), c.error(false), 1e-3, c.rows_keep_their_bits());
    report.checked(c.name() + ", whole x", c.error(true), 2e-5, true);
}
void check_grouped(Report& report, GroupedCase& c, const std::string& name) {
    const auto r = c.check_all();
    report.checked(name + ": gate+up", r.gate_up_error, 2e-3, r.sorted);
    report.checked(name + ": down, combined", r.error, 1e-3, r.rows_keep_their_bits);
}

void run_checks(Report& report) {
    ProductCase small("small: groups, halves", 256, 4, {{Layout::q8_0, 384, kHalves}}, 200);
    check_product(report, small);
    ProductCase mixed(
        "small: Q8_0, F16, SwiGLU of one x", 320, 1,
        {{Layout::q8_0, 520}, {Layout::q8_0, 352, kSwiglu}, {Layout::f16, 40, ProductOutput::f32, true}},
        200);
    check_product(report, mixed);
    const ExpertsCase q2(Layout::iq2_xxs, Layout::q2_k);
    GroupedCase grouped(q2, 200);
    check_grouped(report, grouped, "IQ2_XXS, Q2_K");
}

// All products of one CSA layer.
struct LayerCase {
    ProductCase b, c, index_q, o_a, o_b, shared_up, shared_down;
    explicit LayerCase(std::uint32_t n)
        : b("B: all from x, CSA", 4096, 1,
            {{Layout::f16, 256, ProductOutput::f32, true},
             {Layout::f16, 1024, ProductOutput::f32, true},
             {Layout::f16, 1024, ProductOutput::f32, true},
             {Layout::f16, 256, ProductOutput::f32, true},
             {Layout::f16, 64, ProductOutput::f32, true},
             {Layout::q8_0, 1024},
             {Layout::q8_0, 512}},
            n),
          c("C: q_b", 1024, 1, {{Layout::q8_0, 32768}}, n),
          index_q("C: indexer q_b, F16", 1024, 1, {{Layout::f16, 8192}}, n),
          o_a("F: o_a, 8 groups, halves out", 4096, 8, {{Layout::q8_0, 8192, kHalves}}, n),
          o_b("G: o_b", 8192, 1, {{Layout::q8_0, 4096}}, n),
          shared_up("I: router, shared gate+up, halves out", 4096, 1,
                    {{Layout::f16, 256, ProductOutput::f32, true}, {Layout::q8_0, 2048, kSwiglu}}, n),
          shared_down("shared down", 2048, 1, {{Layout::q8_0, 4096}}, n) {}
    std::vector<ProductCase*> all() { return {&b, &c, &index_q, &o_a, &o_b, &shared_up, &shared_down}; }
};

void time_layer(Report& report, std::uint32_t n) {
    LayerCase layer(n);
    for (ProductCase* c : layer.all()) {
        if (n == 2048) check_product(report, *c);
        report.time(c->name(), n, c->flops(n), [&](cudaStream_t stream) { c->launch(0, n, stream); });
    }
    report.time("halves of 4096 f32", n, 0, [&](cudaStream_t stream) { layer.b.launch_halves(n, stream); });
    report.time("halves of 32768 f32", n, 0,
                [&](cudaStream_t stream) { layer.o_a.launch_halves(n, stream); });

    const ExpertsCase q2(Layout::iq2_xxs, Layout::q2_k);
    GroupedCase grouped(q2, n);
    if (n == 2048) check_grouped(report, grouped, "IQ2_XXS, Q2_K");
    report.time("sort", n, 0, [&](cudaStream_t stream) { grouped.launch_sort(0, n, stream); });
    report.time("experts' gate+up, IQ2_XXS", n, GroupedCase::gate_up_flops(n),
                [&](cudaStream_t stream) { grouped.launch_gate_up(0, stream); });
    report.time("experts' down, Q2_K", n, GroupedCase::down_flops(n),
                [&](cudaStream_t stream) { grouped.launch_down(stream); });
    report.time("sum over slots", n, 0, [&](cudaStream_t stream) { grouped.launch_combine(0, n, stream); });

    double flops = GroupedCase::gate_up_flops(n) + GroupedCase::down_flops(n);
    for (ProductCase* c : layer.all()) flops += c->flops(n);
    const double s = report.time("all of these, CSA layer", n, flops, [&](cudaStream_t stream) {
        for (ProductCase* c : layer.all()) {
            if (c != &layer.shared_down && c != &layer.o_b) c->launch_halves(n, stream);
            c->launch(0, n, stream);
        }
        grouped.launch(0, n, stream);
    });
    std::printf("products alone, 43 such layers: %.0f tokens/s\n", n / (43 * s));
}

void run(Report& report) {
    time_layer(report, 2048);
    time_layer(report, 4096);
    {
        const ExpertsCase q4(Layout::q4_k, Layout::q4_k);
        GroupedCase grouped(q4, 2048);
        check_grouped(report, grouped, "Q4_K");
        grouped.launch_sort(0, 2048, nullptr);
        report.time("experts' gate+up, Q4_K", 2048, GroupedCase::gate_up_flops(2048),
                    [&](cudaStream_t stream) { grouped.launch_gate_up(0, stream); });
        report.time("experts' down, Q4_K", 2048, GroupedCase::down_flops(2048),
                    [&](cudaStream_t stream) { grouped.launch_down(stream); });
    }
}

}  // namespace
}  // namespace ds4::gpu::bench

int main(int argc, char** argv) {
    using namespace ds4::gpu::bench;
    try {
        Report report;
        run_checks(report);
        if (argc > 1 && std::string(argv[1]) == "check") return report.failures() == 0 ? 0 : 1;
        run(report);
        return report.print(product_rate());
    } catch (const std::exception& e) {
        std::printf("%s\n", e.what());
        return 1;
    }
}
