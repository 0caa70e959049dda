#include "backend/gpu/device.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "backend/gpu/cuda/attention.h"
#include "backend/gpu/cuda/check.h"
#include "backend/gpu/cuda/entries.h"
#include "backend/gpu/cuda/indexer.h"
#include "backend/gpu/cuda/streams.h"
#include "backend/gpu/cuda/uploader.h"

namespace ds4::gpu {
namespace {

using cuda::check;

// A context of this process was found spoilt. What this does to the process is the driver's business: some
// open the GPU again after cudaDeviceReset(), driver 580 says "busy or unavailable" until the process ends.
std::atomic<bool> has_failed{false};

std::string version(int v) {
    return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
}

std::string gigabytes(std::size_t bytes) {
    const std::size_t tenths = (bytes + 50'000'000) / 100'000'000;
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " GB";
}

// Why there is no device to use, in one line.
[[noreturn]] void throw_no_device(cudaError_t status) {
    cudaGetLastError();
    int driver = 0;
    cudaDriverGetVersion(&driver);
    if (driver == 0) throw DeviceError("no NVIDIA driver is loaded; install one, or use --backend cpu");
    if (status == cudaErrorInsufficientDriver) {
        throw DeviceError("the NVIDIA driver is too old: it supports CUDA " + version(driver) +
                          ", this program needs " + version(CUDART_VERSION) +
                          "; update the driver, or use --backend cpu");
    }
    if (status == cudaSuccess || status == cudaErrorNoDevice) {
        throw DeviceError("there is no NVIDIA GPU here, or CUDA_VISIBLE_DEVICES hides it; use --backend cpu");
    }
    throw DeviceError(std::string("CUDA: cannot list the GPUs: ") + cudaGetErrorString(status) +
                      "; use --backend cpu");
}

// What opening a GPU has come to. Before any failure an error means what it says: the GPU is somebody
// else's, say. Afterwards it means that this process has lost it, but for memory that somebody else took.
void check_not_lost(cudaError_t status) {
    if (status == cudaSuccess || status == cudaErrorMemoryAllocation || !has_failed) return;
    cudaGetLastError();
    throw DeviceLostError(std::string("CUDA: the GPU has failed and is lost to this process (") +
                          cudaGetErrorString(status) + "); restart the program");
}

class CudaGraph final : public Graph {
  public:
    explicit CudaGraph(cudaGraph_t graph) {
        const cudaError_t status = cudaGraphInstantiate(&exec_, graph, 0);
        cudaGraphDestroy(graph);
        check(status, "cannot make a graph");
    }
    ~CudaGraph() override { cudaGraphExecDestroy(exec_); }
    CudaGraph(const CudaGraph&) = delete;
    CudaGraph& operator=(const CudaGraph&) = delete;

    cudaGraphExec_t exec() const { return exec_; }

  private:
    cudaGraphExec_t exec_ = nullptr;
};

// What a kernel that failed leaves behind spoils the process's context of this GPU for good, whoever asks.
// The last to leave closes it, so that the next device starts with a new one, if the driver gives it one
// (check_not_lost). A good context stays, without
// the memory that its pool kept: the next device plans with what is free.
class Context {
  public:
    explicit Context(int index) : index_(index) {}
    ~Context() {
        cudaSetDevice(index_);
        cudaMemPool_t pool = nullptr;
        if (cudaDeviceSynchronize() != cudaSuccess) {
            has_failed = true;
            cudaDeviceReset();
        } else if (cudaDeviceGetDefaultMemPool(&pool, index_) == cudaSuccess) {
            cudaMemPoolTrimTo(pool, 0);
        }
        cudaGetLastError();
    }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

  private:
    int index_;
};

// A stream that destroys itself.
class Stream {
  public:
    Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cannot create a stream"); }
    ~Stream() { cudaStreamDestroy(stream_); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    cudaStream_t get() const { return stream_; }

  private:
    cudaStream_t stream_ = nullptr;
};

class CudaDevice final : public Device {
  public:
    explicit CudaDevice(int index) : index_(select(index)) {
        check(cudaGetDeviceProperties(&properties_, index_), "cannot ask for the GPU's properties");
        check_architecture();
        keep_freed_memory();
    }

    std::string description() const override {
        return std::string("cuda, ") + properties_.name + ", " +
               std::to_string(properties_.multiProcessorCount) + " multiprocessors";
    }
    std::optional<DeviceMemory> memory() const override { return memory_info(); }
    // The kernels of matrix.h wait and copy with instructions of compute capability 9.0.
    bool multiplies_tiles() const override { return properties_.major >= 9; }

    // In the order of the stream, so that pages come and go without stopping it.
    void* allocate(std::size_t bytes) override {
        use();
        void* memory = nullptr;
        // Rows of KV pages stand at any address and are read in whole words.
        const std::size_t rounded = std::max<std::size_t>((bytes + 15) / 16 * 16, 16);
        const cudaError_t status = cudaMallocAsync(&memory, rounded, stream_.get());
        if (status == cudaErrorMemoryAllocation) {
            cudaGetLastError();
            const DeviceMemory info = memory_info();
            throw DeviceMemoryError(
                std::string(properties_.name) + ": " + gigabytes(bytes) + " more do not fit, " +
                gigabytes(info.free) + " of " + gigabytes(info.total) +
                " are free; use a shorter --ctx, fewer sessions or a smaller --prefill-chunk");
        }
        check(status, "cannot allocate GPU memory");
        return memory;
    }
    void release(void* memory) noexcept override {
        cudaSetDevice(index_);
        cudaFreeAsync(memory, stream_.get());
    }

    void run(std::span<const Launch> launches) override {
        use();
        for (const Launch& launch : launches) start(launch);
    }
    void run(const Graph& graph) override {
        use();
        check(cudaGraphLaunch(static_cast<const CudaGraph&>(graph).exec(), stream_.get()),
              "cannot start a graph");
    }
    void upload(void* to, const void* host, std::size_t bytes) override {
        use();
        if (bytes >= kLargeUpload) {
            if (!uploader_) uploader_.emplace(stream_.get());
            return uploader_->ring.upload(to, {static_cast<const std::byte*>(host), bytes});
        }
        check(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, stream_.get()),
              "cannot copy to the GPU");
    }
    void download(void* host, const void* from, std::size_t bytes) override {
        use();
        check(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, stream_.get()),
              "cannot copy from the GPU");
        wait();
    }
    void fill_zero(void* to, std::size_t bytes) override {
        check(cudaMemsetAsync(to, 0, bytes, stream_.get()), "cannot clear GPU memory");
    }
    void copy(void* to, const void* from, std::size_t bytes) override {
        check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_.get()),
              "cannot copy on the GPU");
    }
    void wait() override { check(cudaStreamSynchronize(stream_.get()), "the GPU failed"); }

    std::unique_ptr<Graph> make_graph(std::span<const Launch> launches) override {
        check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal),
              "cannot begin a graph");
        cudaGraph_t graph = nullptr;
        try {
            run(launches);
        } catch (...) {
            if (cudaStreamEndCapture(stream_.get(), &graph) == cudaSuccess) cudaGraphDestroy(graph);
            throw;
        }
        check(cudaStreamEndCapture(stream_.get(), &graph), "cannot end a graph");
        auto made = std::make_unique<CudaGraph>(graph);
        // Else its first launch would do that.
        check(cudaGraphUpload(made->exec(), stream_.get()), "cannot load a graph");
        return made;
    }

  private:
    static constexpr std::size_t kLargeUpload = std::size_t{4} << 20;

    static int select(int index) {
        int n = 0;
        cudaError_t status = cudaGetDeviceCount(&n);
        check_not_lost(status);
        if (status != cudaSuccess || n == 0) throw_no_device(status);
        if (index >= n) {
            throw DeviceError("there is no GPU " + std::to_string(index) + "; the last one is " +
                              std::to_string(n - 1));
        }
        status = cudaSetDevice(index);
        if (status == cudaSuccess) status = cudaDeviceSynchronize();  // opens it, if it was not yet
        check_not_lost(status);
        check(status, "cannot use the GPU");
        return index;
    }

    // The calling thread's choice of GPU.
    void use() const { check(cudaSetDevice(index_), "cannot use the GPU"); }

    // Pages of sessions come and go: their memory stays with this process.
    void keep_freed_memory() const {
        cudaMemPool_t pool = nullptr;
        check(cudaDeviceGetDefaultMemPool(&pool, index_), "the GPU has no memory pools");
        std::uint64_t everything = ~std::uint64_t{0};
        check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &everything),
              "cannot set up memory pools");
    }

    static DeviceMemory memory_info() {
        DeviceMemory info;
        check(cudaMemGetInfo(&info.free, &info.total), "cannot ask for the GPU's memory");
        return info;
    }

    void check_architecture() const {
        cudaFuncAttributes attributes;
        if (cudaFuncGetAttributes(&attributes, cuda::entry(Kernel::add).function) == cudaSuccess) return;
        cudaGetLastError();
        throw DeviceError(
            std::string(properties_.name) + " has compute capability " + std::to_string(properties_.major) +
            "." + std::to_string(properties_.minor) +
            ", for which this program was not built; add it to DS4_CUDA_ARCHITECTURES, or use --backend "
            "cpu");
    }

    void start(const Launch& launch) {
        const cuda::Entry entry = cuda::entry(launch.kernel);
        if (entry.launch != nullptr) {
            return check(entry.launch(launch.args.data(), stream_.get()), entry.name);
        }
        cudaError_t status = cudaSuccess;
        if (cuda::launch_attention(launch, stream_.get(), status) ||
            cuda::launch_indexer(launch, stream_.get(), status) ||
            cuda::launch_streams(launch, stream_.get(), status)) {
            return check(status, entry.name);
        }
        void* args[] = {const_cast<std::byte*>(launch.args.data())};
        // It may begin before the one ahead of it has ended: it waits by itself (entries.cu).
        cudaLaunchAttribute attribute{};
        attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attribute.val.programmaticStreamSerializationAllowed = properties_.major >= 9 ? 1 : 0;
        cudaLaunchConfig_t config{};
        config.gridDim = dim3(launch.grid.x, launch.grid.y);
        config.blockDim = dim3(entry.n_threads);
        config.stream = stream_.get();
        config.attrs = &attribute;
        config.numAttrs = 1;
        check(cudaLaunchKernelExC(&config, entry.function, args), entry.name);
    }

    int index_;
    Context context_{index_};
    cudaDeviceProp properties_{};
    Stream stream_;
    std::optional<cuda::Uploader> uploader_;
};

}  // namespace

std::unique_ptr<Device> make_cuda_device(int index) {
    return std::make_unique<CudaDevice>(index);
}

bool has_cuda_device() {
    if (has_failed) return true;  // and counts no more, perhaps
    int n = 0;
    if (cudaGetDeviceCount(&n) == cudaSuccess && n > 0) return true;
    cudaGetLastError();
    return false;
}

}  // namespace ds4::gpu
