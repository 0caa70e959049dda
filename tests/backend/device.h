#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "quant/float_bits.h"
#include "quant/format.h"

// Inputs of operations: random numbers that depend on the seed alone, and their copies in a backend's memory.
namespace ds4::test {

class Random {
  public:
    explicit Random(std::uint32_t seed) : engine_(seed) {}

    // In [low, high].
    std::int64_t integer(std::int64_t low, std::int64_t high) {
        return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint32_t>(high - low + 1));
    }

    std::vector<float> gaussian(std::int64_t n, float deviation = 1) {
        std::vector<float> x(static_cast<std::size_t>(n));
        for (float& v : x) v = deviation * normal_(engine_);
        return x;
    }

    // Integers of magnitude <= bound.
    std::vector<float> integers(std::int64_t n, std::int64_t bound) {
        std::vector<float> x(static_cast<std::size_t>(n));
        for (float& v : x) v = static_cast<float>(integer(-bound, bound));
        return x;
    }

    // Multiples of 2^-6 whose blocks of 32 all reach 127 * 2^-6: a backend that quantises activations to int8
    // under scales of amax / 127 loses nothing on them.
    std::vector<float> int8_exact(std::int64_t n) {
        std::vector<float> x = integers(n, 126);
        for (std::size_t i = 0; i < x.size(); i += 32) x[i] = integer(0, 1) == 0 ? 127.0F : -127.0F;
        for (float& v : x) v *= 0x1p-6F;
        return x;
    }

    // Rows of n_in weights with a deviation of about n_in^-0.5.
    std::vector<std::byte> weights(quant::Type type, std::int64_t n_rows, std::int64_t n_in) {
        const quant::Format& f = quant::format(type);
        const auto n = static_cast<std::size_t>(n_rows * n_in);
        std::vector<std::byte> blocks(quant::row_bytes(f, n));
        const auto deviation = static_cast<float>(1 / std::sqrt(static_cast<double>(n_in)));
        if (f.encode != nullptr) {
            f.encode(gaussian(n_rows * n_in, deviation).data(), blocks.data(), n);
            return blocks;
        }
        // No encoder: blocks of random codes behind fitting f16 scales.
        for (std::byte& b : blocks) b = static_cast<std::byte>(engine_());
        for (std::size_t b = 0; b < blocks.size(); b += f.block_bytes) {
            set_scales(type, deviation, blocks.data() + b);
        }
        return blocks;
    }

  private:
    static void set_scales(quant::Type type, float deviation, std::byte* block) {
        const auto set = [&](std::size_t offset, float scale) {
            quant::store(block + offset, quant::f32_to_f16(scale));
        };
        if (type == quant::Type::q2_k) {  // scale and minimum meet factors up to 45 and 15
            set(80, deviation / 16);
            set(82, deviation / 16);
        } else if (type == quant::Type::q4_k) {  // up to 945 and 63
            set(0, deviation / 256);
            set(2, deviation / 32);
        } else {  // IQ2_XXS: up to 172
            set(0, deviation / 32);
        }
    }

    std::mt19937 engine_;
    std::normal_distribution<float> normal_;
};

// Owns what a case puts into a backend's memory.
class Device {
  public:
    explicit Device(Backend& backend) : backend_(backend) {}

    Backend& backend() const { return backend_; }

    template <class T>
    T* upload(const std::vector<T>& host) {
        T* memory = allocate<T>(host.size());
        backend_.upload(memory, host.data(), host.size() * sizeof(T));
        return memory;
    }
    template <class T>
    T* allocate(std::size_t n) {
        return static_cast<T*>(memory_.emplace_back(backend_, n * sizeof(T)).get());
    }
    template <class T>
    std::vector<T> download(const T* from, std::int64_t n) const {
        std::vector<T> host(static_cast<std::size_t>(n));
        backend_.download(host.data(), from, host.size() * sizeof(T));
        return host;
    }

    Rows rows(const std::vector<float>& host, std::int64_t width) {
        return {upload(host), static_cast<std::int64_t>(host.size()) / width, width};
    }
    // Rows that an operation fills; a value it leaves out shows.
    Rows result(std::int64_t n, std::int64_t width) {
        return rows(std::vector<float>(static_cast<std::size_t>(n * width), 12345.0F), width);
    }
    std::vector<float> download(Rows rows) const { return download<float>(rows.data, rows.n * rows.width); }

    Vector vector(const std::vector<float>& host) {
        return {upload(host), static_cast<std::int64_t>(host.size())};
    }
    Matrix matrix(Random& random, quant::Type type, std::int64_t n_out, std::int64_t n_in,
                  std::int64_t stack = 1, Backend::MatrixUse use = Backend::MatrixUse::product) {
        return matrix(random.weights(type, stack * n_out, n_in), type, n_out, n_in, stack, use);
    }
    Matrix grouped_matrix(Random& random, quant::Type type, std::int64_t n_groups, std::int64_t n_out,
                          std::int64_t n_in) {
        return backend_.place_grouped(host_matrix(random.weights(type, n_out, n_in), type, n_out, n_in, 1),
                                      n_groups);
    }
    struct ExpertTypes {
        quant::Type gate, up, down;
    };
    // n_experts of width f for rows of e.
    Experts experts(Random& random, const ExpertTypes& types, std::int64_t n_experts, std::int64_t e,
                    std::int64_t f, float clamp) {
        const auto stack = [&](quant::Type type, std::int64_t n_out, std::int64_t n_in) {
            return host_matrix(random.weights(type, n_experts * n_out, n_in), type, n_out, n_in, n_experts);
        };
        Experts host;
        host.gate = stack(types.gate, f, e);
        host.up = stack(types.up, f, e);
        host.down = stack(types.down, e, f);
        host.clamp = clamp;
        return backend_.place_experts(host);
    }
    Matrix matrix(const std::vector<float>& values, std::int64_t n_in) {
        std::vector<std::byte> bytes(values.size() * sizeof(float));
        std::memcpy(bytes.data(), values.data(), bytes.size());
        return matrix(std::move(bytes), quant::Type::f32, static_cast<std::int64_t>(values.size()) / n_in,
                      n_in, 1, Backend::MatrixUse::product);
    }

  private:
    Matrix matrix(std::vector<std::byte> bytes, quant::Type type, std::int64_t n_out, std::int64_t n_in,
                  std::int64_t stack, Backend::MatrixUse use) {
        return backend_.place(host_matrix(std::move(bytes), type, n_out, n_in, stack), use);
    }
    Matrix host_matrix(std::vector<std::byte> bytes, quant::Type type, std::int64_t n_out, std::int64_t n_in,
                       std::int64_t stack) {
        const auto& kept = weights_.emplace_back(std::make_unique<std::vector<std::byte>>(std::move(bytes)));
        const std::size_t row_bytes = quant::row_bytes(quant::format(type), static_cast<std::size_t>(n_in));
        return {kept->data(), type, n_in, n_out, stack, row_bytes};
    }

    Backend& backend_;
    std::vector<BackendMemory> memory_;
    std::vector<std::unique_ptr<std::vector<std::byte>>> weights_;  // what place() may point at
};

}  // namespace ds4::test
