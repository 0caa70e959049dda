// When each kernel of a program ran on the GPU, for profiles of whole steps; needs no other tool. The driver
// loads it into any CUDA program:
//
//   CUDA_INJECTION64_PATH=build/cuda/bench/libgpu_trace.so ds4-bench -m FILE --cuda ...
//
// At the program's end a table per way of starting goes to standard error: kernels replayed in graphs (steps
// of answers) and others (prompts). "added" is what a kernel adds to the time in which the GPU was busy:
// dependent launches overlap, so that durations say little.
#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Run {
    std::uint64_t begin, end;  // ns
    bool in_graph;
    std::string name;
};

struct Trace {
    std::mutex mutex;
    std::vector<Run> runs;
};
Trace& trace() {
    static auto* const all = new Trace;  // the last records come when static objects are gone
    return *all;
}

// "void ds4::gpu::cuda::(anonymous namespace)::rows_kernel<1>(...)" -> "rows_kernel<1>"
std::string short_name(const char* mangled) {
    int status = 0;
    char* const whole = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
    std::string name = whole != nullptr ? whole : mangled;
    std::free(whole);
    constexpr std::string_view kUnnamed = "(anonymous namespace)::";
    for (std::size_t at = name.find(kUnnamed); at != std::string::npos; at = name.find(kUnnamed))
        name.erase(at, kUnnamed.size());
    name = name.substr(0, name.find('('));
    const std::size_t scope = name.substr(0, name.find('<')).rfind("::");
    return scope == std::string::npos ? name : name.substr(scope + 2);
}

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* bytes, std::size_t* most_records) {
    *bytes = std::size_t{8} << 20;
    *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(8, *bytes));
    *most_records = 0;
}

void CUPTIAPI take_buffer(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t, std::size_t n_valid) {
    const std::lock_guard lock(trace().mutex);
    CUpti_Activity* record = nullptr;
    while (cuptiActivityGetNextRecord(buffer, n_valid, &record) == CUPTI_SUCCESS) {
        if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
        const auto& kernel = *reinterpret_cast<const CUpti_ActivityKernel9*>(record);
        trace().runs.push_back({kernel.start, kernel.end, kernel.graphId != 0, kernel.name});
    }
    std::free(buffer);
}

struct Sum {
    std::size_t n = 0;
    double duration = 0, added = 0;  // us
};

void print(const std::vector<Run>& runs, bool in_graph) {
    std::map<std::string, Sum> sums;
    double busy = 0;
    std::uint64_t busy_until = 0;
    for (const Run& run : runs) {
        const std::uint64_t from = std::max(run.begin, busy_until);
        const double added = run.end > from ? static_cast<double>(run.end - from) / 1e3 : 0;
        busy_until = std::max(busy_until, run.end);
        if (run.in_graph != in_graph) continue;
        Sum& sum = sums[run.name];
        ++sum.n;
        sum.duration += static_cast<double>(run.end - run.begin) / 1e3;
        sum.added += added;
        busy += added;
    }
    std::vector<std::pair<std::string, Sum>> rows(sums.begin(), sums.end());
    std::sort(rows.begin(), rows.end(),
              [](const auto& a, const auto& b) { return a.second.added > b.second.added; });
    std::fprintf(stderr, "\nkernels %s: %.2f ms\n%7s %12s %14s %11s\n",
                 in_graph ? "in graphs" : "started singly", busy / 1e3, "share", "launches", "us a launch",
                 "added, us");
    for (const auto& [mangled, sum] : rows) {
        const auto n = static_cast<double>(sum.n);
        std::fprintf(stderr, "%5.1f %% %12zu %14.2f %11.2f  %s\n", 100 * sum.added / busy, sum.n,
                     sum.duration / n, sum.added / n, short_name(mangled.c_str()).c_str());
    }
}

void report() {
    cuptiActivityFlushAll(1);
    const std::lock_guard lock(trace().mutex);
    std::vector<Run>& runs = trace().runs;
    std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.begin < b.begin; });
    for (const bool in_graph : {false, true}) print(runs, in_graph);
}

}  // namespace

// The driver calls this when CUDA starts.
extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
    trace();
    if (cuptiActivityRegisterCallbacks(give_buffer, take_buffer) != CUPTI_SUCCESS) return 0;
    if (cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) != CUPTI_SUCCESS) return 0;
    std::atexit(report);
    return 1;
}
