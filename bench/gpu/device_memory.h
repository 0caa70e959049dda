#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

// What the GPU timing programs share: device memory, medians of graph replays.
namespace ds4::gpu::bench {

inline void check(cudaError_t error, const char* what) {
    if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// Device memory that frees itself; released at the end of a case.
template <class T>
class Device {
  public:
    Device() = default;
    explicit Device(std::size_t n) : n_(n) {
        check(cudaMalloc(&data_, std::max<std::size_t>(n, 1) * sizeof(T)), "cudaMalloc");
    }
    explicit Device(const std::vector<T>& host) : Device(host.size()) {
        check(cudaMemcpy(data_, host.data(), n_ * sizeof(T), cudaMemcpyHostToDevice), "upload");
    }
    Device(Device&& other) noexcept : data_(other.data_), n_(other.n_) { other.data_ = nullptr; }
    Device& operator=(Device&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(n_, other.n_);
        return *this;
    }
    ~Device() { cudaFree(data_); }

    T* get() const { return data_; }
    std::size_t size() const { return n_; }
    std::vector<T> host() const {
        std::vector<T> out(n_);
        check(cudaMemcpy(out.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost), "download");
        return out;
    }
    void poison() const { check(cudaMemset(data_, 0xff, n_ * sizeof(T)), "memset"); }

  private:
    T* data_ = nullptr;
    std::size_t n_ = 0;
};

// Median seconds of `launch(i)`, i counting up, over replays of a graph of n launches, dependent launches as
// they are captured.
double seconds_a_launch(int n, const std::function<void(int, cudaStream_t)>& launch);

// ||a - b|| / ||b||; infinite if a has a NaN.
template <class A, class B>
double relative_error(const std::vector<A>& a, const std::vector<B>& b) {
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
        const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
        difference += d * d;
        norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
    }
    const double e = std::sqrt(difference / norm);
    return std::isfinite(e) ? e : INFINITY;
}

inline std::vector<float> random_values(std::size_t n, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> x(n);
    for (float& v : x) v = normal(random);
    return x;
}

}  // namespace ds4::gpu::bench
