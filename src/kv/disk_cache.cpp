#include "kv/disk_cache.h"

#include <utility>

namespace ds4::kv {

DiskCache::DiskCache(StoreOptions options, Engine& engine) : store_(std::move(options), engine) {}
DiskCache::~DiskCache() = default;

std::shared_ptr<DiskCache::Reading> DiskCache::read(Store::Found found, std::function<void()> then) {
    auto reading = std::make_shared<Reading>();
    reader_.post([this, reading, found = std::move(found), then = std::move(then)] {
        reading->loaded = store_.load(found);
        reading->is_done = true;
        then();
    });
    return reading;
}

void DiskCache::write(Store::Save save) {
    writer_.post([this, save = std::move(save)] { store_.save(save); });
}

void DiskCache::flush() {
    writer_.flush();
}

void DiskCache::finish_reading() {
    reader_.flush();
}

DiskCache::Totals DiskCache::totals() const {
    return {store_.totals(), writer_.n_waiting()};
}

// ---- Worker ----

DiskCache::Worker::Worker() : thread_([this] { run(); }) {}

DiskCache::Worker::~Worker() {
    {
        const std::lock_guard lock(mutex_);
        is_stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void DiskCache::Worker::post(std::function<void()> task) {
    {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
}

void DiskCache::Worker::flush() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return tasks_.empty() && !is_busy_; });
}

std::size_t DiskCache::Worker::n_waiting() const {
    const std::lock_guard lock(mutex_);
    return tasks_.size() + (is_busy_ ? 1 : 0);
}

void DiskCache::Worker::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait(lock, [this] { return is_stopping_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        const auto task = std::exchange(tasks_.front(), nullptr);
        tasks_.pop_front();
        is_busy_ = true;
        lock.unlock();
        task();
        lock.lock();
        is_busy_ = false;
        changed_.notify_all();
    }
}

}  // namespace ds4::kv
