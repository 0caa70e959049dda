#pragma once

#include <span>

#include "backend/backend.h"
#include "base/thread_pool.h"

// Backend::attention and Backend::store_window.
namespace ds4::cpu {

void attention(ThreadPool& pool, const Attention& attention, const BatchRows& batch,
               std::span<const LayerHistory> history, const Selection& selection, Rows q, Rows kv, Rows out);
void store_window(ThreadPool& pool, const BatchRows& batch, std::span<const LayerHistory> history, Rows kv);

}  // namespace ds4::cpu
