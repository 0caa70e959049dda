#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace ds4::gpu {

// The part of uploading that a device does by itself.
class CopyEngine {
  public:
    virtual ~CopyEngine() = default;

    // Host memory that it copies from without the help of a CPU. Throws DeviceError.
    virtual std::byte* pin(std::size_t bytes) = 0;
    virtual void unpin(std::byte* memory) noexcept = 0;
    // Puts a copy into the device's queue. Throws DeviceError.
    virtual void start(std::size_t slot, void* to, const std::byte* from, std::size_t bytes) = 0;
    // Waits until the copy that was started for this slot, if any, has read its memory. Throws DeviceError.
    virtual void await(std::size_t slot) = 0;
};

// Copies large blocks to a device through a ring of pinned slots: threads read one slot's bytes, from the
// file if they are a mapped file's (read_bytes), while the device copies the others. The file's pages stay in
// the page cache and are not mapped in.
class UploadRing {
  public:
    struct Options {
        std::size_t slot_bytes = std::size_t{32} << 20;
        std::size_t n_slots = 4;
        std::size_t grain = std::size_t{1} << 20;  // of a thread's reads
        int n_threads = 0;                         // 0: one per core, but no more than fill a PCIe 5 link
    };

    // The engine must outlive it. Throws DeviceError.
    UploadRing(CopyEngine& engine, const Options& options);
    ~UploadRing();
    UploadRing(const UploadRing&) = delete;
    UploadRing& operator=(const UploadRing&) = delete;

    // `host` may be used again when it returns; the last copies are still in the queue. Throws DeviceError,
    // IoError (the file).
    void upload(void* to, std::span<const std::byte> host);

    int n_threads() const { return pool_.size(); }

  private:
    void fill(std::byte* slot, std::span<const std::byte> part, std::span<const std::byte> after);

    CopyEngine& engine_;
    const Options options_;
    ThreadPool pool_;
    std::vector<std::byte*> slots_;
    std::size_t next_ = 0;
};

}  // namespace ds4::gpu
