#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "kv/store.h"

namespace ds4::kv {

// The store with threads of its own, so that nobody who computes waits for a disk: one writes checkpoints in
// the order they come, one reads.
class DiskCache {
  public:
    // The engine must outlive it. Throws IoError.
    DiskCache(StoreOptions options, Engine& engine);
    ~DiskCache();  // writes what waits to be written
    DiskCache(const DiskCache&) = delete;
    DiskCache& operator=(const DiskCache&) = delete;

    // Looks at the names only.
    std::vector<Store::Found> find(const Key& prompt) { return store_.find(prompt); }

    std::vector<ToolMapEntry> tool_maps() { return store_.tool_maps(); }

    // Of a checkpoint that is being read.
    struct Reading {
        std::atomic<bool> is_done{false};
        std::optional<Store::Loaded> loaded;  // once done; nullopt: it could not be used
    };
    // then: called from the reading thread when it is done.
    std::shared_ptr<Reading> read(Store::Found found, std::function<void()> then);
    void reject(const Store::Found& found, const std::string& why) { store_.reject(found, why); }

    void write(Store::Save save);
    // All that was given to write() so far is on the disk, or could not get there.
    void flush();
    // Everybody who was promised a call by read() has had it.
    void finish_reading();

    struct Totals : Store::Totals {
        std::uint64_t n_waiting = 0;  // to be written
    };
    Totals totals() const;

  private:
    // A queue and the thread that works through it.
    class Worker {
      public:
        Worker();
        ~Worker();  // does what is in the queue first
        void post(std::function<void()> task);
        void flush();
        std::size_t n_waiting() const;

      private:
        void run();

        mutable std::mutex mutex_;
        std::condition_variable changed_;
        std::deque<std::function<void()>> tasks_;
        bool is_busy_ = false, is_stopping_ = false;
        std::thread thread_;
    };

    Store store_;
    Worker writer_, reader_;
};

}  // namespace ds4::kv
