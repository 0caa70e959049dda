#include "indexer_case.h"

// Checks and times the indexer on the shapes of Flash: scores against the shared body on the same GPU, the
// form of generated rows against the form of prompts and rows against themselves in other company bit by bit,
// the selection against the shared one on the same scores, then medians of graph replays. Ends with a table;
// the exit status says whether everything was right. With the argument "check": checks only.
namespace ds4::gpu::bench {
namespace {

constexpr double kLimit = 1e-6;  // of the relative error: both sum in f32, in different orders
constexpr std::uint32_t kOneLaunch = 64;

std::string name_of(const IndexShape& s) {
    return (s.decodes ? "decode at " : "prefill at ") + std::to_string(s.depth) + (s.ties ? ", ties" : "");
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

class Report {
  public:
    // Of some rows: all of the first ones, and the last.
    void checked(const IndexShape& shape, const IndexCase& c) {
        const std::uint32_t n = std::min(c.n_rows(), std::min(c.at_once(), 256u));
        check_rows(shape, c, 0, n);
        if (n < c.n_rows()) check_rows(shape, c, c.n_rows() - n, n);
    }
    void timed(const IndexShape& shape, const IndexCase& c) {
        const int n = shape.n_rows <= kOneLaunch ? 20 : 3;
        const double all = seconds_a_launch(n, [&](int, cudaStream_t stream) { c.step(stream); });
        const std::uint32_t rows = std::min(c.at_once(), c.n_rows());
        const double windows = static_cast<double>(c.n_rows()) / rows;
        const double select = windows * seconds_a_launch(n, [&](int, cudaStream_t stream) {
                                  IndexCase::start(c.select(c.n_rows() - rows, rows), stream);
                              });
        lines_.push_back({name_of(shape), shape.n_rows, c.flops(), all, select});
    }
    // Of made-up scores: sizes around those that the selection treats apart, ties, infinities, NaN.
    void check_selection() {
        std::mt19937 random(9);
        std::normal_distribution<float> normal;
        for (const std::uint32_t keys :
             {513u, 514u, 1000u, 2047u, 2048u, 2049u, 8192u, 10239u, 10240u, 10241u, 70001u}) {
            const IndexCase of(IndexShape{8, true, 4 * keys, false});
            std::vector<float> scores(of.score_floats());
            for (std::uint32_t row = 0; row < 8; ++row) {
                for (std::size_t i = 0; i < of.stride(); ++i) {
                    float x = normal(random);
                    if (row == 1) x = std::round(x * 2);
                    if (row == 2) x = -1;
                    if (row == 3) x = std::exp(20 * x);
                    if (row == 4 && i % 7 == 0) x = i % 2 == 0 ? INFINITY : -INFINITY;
                    if (row == 5 && i % 5 == 0) x = NAN;
                    if (row == 6) x = static_cast<float>(i % 511);
                    if (row == 7) x = i % 600 == 0 ? 1.0F : 0.0F;
                    scores[row * of.stride() + i] = x + 0.0F;
                }
            }
            of.set_scores(scores);
            of.poison_choice();
            IndexCase::start_shared(of.select(0, 8));
            const auto expected = of.choice(0, 8);
            of.poison_choice();
            IndexCase::start(of.select(0, 8), nullptr);
            say("selection of " + std::to_string(keys), same_bits(of.choice(0, 8), expected), "");
        }
    }
    void print() const {
        std::printf("\n%-28s %5s %9s %9s %9s %8s\n", "indexer of a layer", "rows", "GFLOP", "us", "selection",
                    "TFLOP/s");
        for (const Line& l : lines_) {
            std::printf("%-28s %5u %9.3f %9.1f %9.1f %8.1f\n", l.name.c_str(), l.rows, l.flops / 1e9,
                        l.seconds * 1e6, l.select * 1e6, l.flops / l.seconds / 1e12);
        }
    }
    int status() const { return failures_ == 0 ? 0 : 1; }

  private:
    struct Line {
        std::string name;
        std::uint32_t rows;
        double flops, seconds, select;
    };

    void say(const std::string& name, bool good, const std::string& more) {
        std::printf("check %s: %s%s\n", name.c_str(), good ? "right" : "WRONG  <--", more.c_str());
        std::fflush(stdout);
        if (!good) ++failures_;
    }

    void check_rows(const IndexShape& shape, const IndexCase& c, std::uint32_t first, std::uint32_t n) {
        c.poison_scores();
        IndexCase::start_shared(c.scores(first, n));
        const auto plain = c.wanted_scores(first, n);
        c.poison_scores();
        IndexCase::start(c.scores(first, n), nullptr);
        const auto scores = c.wanted_scores(first, n);
        const double error = plain.empty() ? 0 : relative_error(scores, plain);

        c.poison_choice();
        IndexCase::start_shared(c.select(first, n));
        const auto expected = c.choice(first, n);
        c.poison_choice();
        IndexCase::start(c.select(first, n), nullptr);
        bool chosen = same_bits(c.choice(first, n), expected);

        // In one launch, all that may be at once and then some row alone; twice, for the counters.
        bool kept = true;
        for (const std::uint32_t alone : {0u, 1u, 0u}) {
            const std::uint32_t of = alone != 0 ? first + n - 1 : first;
            const std::uint32_t rows = alone != 0 ? 1 : std::min(n, kOneLaunch);
            IndexCase::start(c.scores(of, rows), nullptr);
            const auto wanted = c.wanted_scores(of, rows);
            IndexCase::start_shared(c.select(of, rows));
            const auto list = c.choice(of, rows);
            c.poison_scores();
            c.poison_choice();
            IndexCase::start(c.both(of, rows), nullptr);
            kept = kept && same_bits(c.wanted_scores(of, rows), wanted) && c.nobody_arrived();
            chosen = chosen && same_bits(c.choice(of, rows), list);
            if (alone != 0 && !wanted.empty()) {
                const std::size_t at = scores.size() - wanted.size();
                kept = kept && std::memcmp(scores.data() + at, wanted.data(), wanted.size() * 4) == 0;
            }
        }
        char text[160];
        std::snprintf(text, sizeof text, ", error %.2e (limit %.0e), bits %s, selection %s", error, kLimit,
                      kept ? "kept" : "CHANGED", chosen ? "right" : "WRONG");
        say(name_of(shape) + ", rows " + std::to_string(first) + " to " + std::to_string(first + n - 1),
            error <= kLimit && kept && chosen, text);
    }

    std::vector<Line> lines_;
    int failures_ = 0;
};

void run(Report& report, bool times) {
    report.check_selection();
    // Rows on both sides of where scores begin to be needed, ties, tiles that are not full.
    for (const IndexShape& s : {IndexShape{70, false, 2020, false}, IndexShape{70, false, 2020, true},
                                IndexShape{5, true, 2052, true}, IndexShape{3, true, 1500, false},
                                IndexShape{150, false, 10000, true}, IndexShape{70, true, 3333, false}}) {
        report.checked(s, IndexCase(s));
    }
    const auto both = [&](const IndexShape& s) {
        const IndexCase c(s);
        report.checked(s, c);
        if (times) report.timed(s, c);
    };
    for (const std::uint32_t rows : {1u, 16u}) {
        for (const std::uint32_t keys : {528u, 2048u, 8192u, 65536u}) both({rows, true, 4 * keys - 1, false});
    }
    for (const std::uint32_t depth : {2048u, 8192u, 32768u}) both({2048, false, depth, false});
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
