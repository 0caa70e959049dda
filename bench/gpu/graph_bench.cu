#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "backend/gpu/cuda/ptx.h"
#include "backend/gpu/graph_parts.h"
#include "device_memory.h"

// How long a list of small kernels takes to start and to run as one graph or as several, each of its kernels
// a dependent launch or a plain one. Checks that they run in order. Ends with a table; the exit status says
// whether all did. With the argument "check": checks only.
namespace ds4::gpu::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kLaunches = 800;   // about those of a token
constexpr unsigned kNanoseconds = 3000;  // of a kernel

// As much as the kernels of the backend are told.
struct StepArgs {
    unsigned* n_done;
    unsigned* n_wrong;
    volatile unsigned* started;  // host memory; null but for the first kernel
    unsigned place;
    unsigned rest[41];
};

__device__ unsigned long long now() {
    unsigned long long t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
    return t;
}

__global__ void step(const __grid_constant__ StepArgs a) {
    cuda::wait_for_predecessor();
    cuda::release_dependents();
    if (threadIdx.x != 0 || blockIdx.x != 0) return;
    if (a.started != nullptr) *a.started = 1;
    if (atomicAdd(a.n_done, 1) != a.place) atomicAdd(a.n_wrong, 1);
    for (const unsigned long long end = now() + kNanoseconds; now() < end;) {
    }
}

// A word of host memory that the device writes.
class Flag {
  public:
    Flag() { check(cudaHostAlloc(&word_, sizeof(unsigned), cudaHostAllocMapped), "cudaHostAlloc"); }
    ~Flag() { cudaFreeHost(word_); }
    Flag(const Flag&) = delete;
    Flag& operator=(const Flag&) = delete;

    volatile unsigned* get() const { return word_; }

  private:
    unsigned* word_ = nullptr;
};

class Steps {
  public:
    Steps() {
        check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
        check(cudaMemset(n_wrong_.get(), 0, sizeof(unsigned)), "memset");
    }
    ~Steps() {
        clear();
        cudaStreamDestroy(stream_);
    }
    Steps(const Steps&) = delete;
    Steps& operator=(const Steps&) = delete;

    // The list in graphs of these sizes.
    void make(const std::vector<std::size_t>& sizes, bool dependent) {
        clear();
        std::size_t place = 0;
        for (const std::size_t n : sizes) {
            check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
            for (std::size_t i = 0; i < n; ++i) launch(place++, dependent);
            cudaGraph_t graph = nullptr;
            check(cudaStreamEndCapture(stream_, &graph), "capture");
            check(cudaGraphInstantiate(&graphs_.emplace_back(), graph, 0), "instantiate");
            cudaGraphDestroy(graph);
            check(cudaGraphUpload(graphs_.back(), stream_), "upload");
        }
        check(cudaStreamSynchronize(stream_), "make");
    }

    struct Times {
        double start, calls, all;  // seconds until the first kernel runs, all are launched, all are done
    };
    Times run() {
        check(cudaMemsetAsync(n_done_.get(), 0, sizeof(unsigned), stream_), "memset");
        check(cudaStreamSynchronize(stream_), "before");
        *started_.get() = 0;
        std::atomic<bool> watching = false;
        Clock::time_point start;
        std::thread watch([&] {
            watching = true;
            while (*started_.get() == 0) {
            }
            start = Clock::now();
        });
        while (!watching) {
        }
        const auto begin = Clock::now();
        for (const cudaGraphExec_t graph : graphs_) check(cudaGraphLaunch(graph, stream_), "launch");
        const auto called = Clock::now();
        check(cudaStreamSynchronize(stream_), "run");
        const auto end = Clock::now();
        watch.join();
        const auto seconds = [&](Clock::time_point t) {
            return std::chrono::duration<double>(t - begin).count();
        };
        return {seconds(start), seconds(called), seconds(end)};
    }
    unsigned n_wrong() const { return n_wrong_.host()[0]; }

  private:
    void clear() {
        for (const cudaGraphExec_t graph : graphs_) cudaGraphExecDestroy(graph);
        graphs_.clear();
    }
    void launch(std::size_t place, bool dependent) {
        StepArgs args{};
        args.n_done = n_done_.get();
        args.n_wrong = n_wrong_.get();
        args.started = place == 0 ? started_.get() : nullptr;
        args.place = static_cast<unsigned>(place);
        cudaLaunchAttribute attribute{};
        attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attribute.val.programmaticStreamSerializationAllowed = dependent ? 1 : 0;
        cudaLaunchConfig_t config{};
        config.gridDim = dim3(64);
        config.blockDim = dim3(256);
        config.stream = stream_;
        config.attrs = &attribute;
        config.numAttrs = 1;
        check(cudaLaunchKernelEx(&config, step, args), "step");
    }

    cudaStream_t stream_ = nullptr;
    Flag started_;
    Device<unsigned> n_done_{1}, n_wrong_{1};
    std::vector<cudaGraphExec_t> graphs_;
};

double median(std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
}

void measure(Steps& steps, const char* name, const std::vector<std::size_t>& sizes, bool dependent) {
    steps.make(sizes, dependent);
    std::vector<double> start, calls, all;
    for (int i = 0; i < 45; ++i) {
        const Steps::Times t = steps.run();
        if (i < 4) continue;
        start.push_back(t.start * 1e6);
        calls.push_back(t.calls * 1e6);
        all.push_back(t.all * 1e6);
    }
    std::printf("%-28s %-9s %7zu %10.0f %10.0f %10.0f %12.2f\n", name, dependent ? "dependent" : "plain",
                sizes.size(), median(start), median(calls), median(all), median(all) / kLaunches);
    std::fflush(stdout);
}

int run(bool times) {
    Steps steps;
    for (const bool dependent : {false, true}) {
        steps.make(graph_parts(kLaunches), dependent);
        for (int i = 0; i < 10; ++i) steps.run();
    }
    if (times) {
        std::printf("\n%-28s %-9s %7s %10s %10s %10s %12s\n", "kernels of 3 us, 800 of them", "launches",
                    "graphs", "start us", "calls us", "all us", "us a kernel");
        for (const bool dependent : {true, false}) {
            measure(steps, "one graph", {kLaunches}, dependent);
            measure(steps, "as the backend's", graph_parts(kLaunches), dependent);
            measure(steps, "eight equal ones", std::vector<std::size_t>(8, kLaunches / 8), dependent);
            measure(steps, "32 equal ones", std::vector<std::size_t>(32, kLaunches / 32), dependent);
        }
    }
    std::printf("%u kernels out of order%s\n", steps.n_wrong(), steps.n_wrong() == 0 ? "" : "  <-- WRONG");
    return steps.n_wrong() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ds4::gpu::bench

int main(int argc, char** argv) {
    try {
        return ds4::gpu::bench::run(argc < 2 || std::strcmp(argv[1], "check") != 0);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 2;
    }
}
