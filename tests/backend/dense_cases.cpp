#include <cmath>
#include <limits>

#include "backend/op_cases.h"

namespace ds4::test {
namespace {

using quant::Type;

constexpr Type kWeightTypes[] = {Type::f32,  Type::f16,  Type::bf16,    Type::q8_0,
                                 Type::q2_k, Type::q4_k, Type::iq2_xxs, Type::mxfp4};

std::string name_of(Type type) {
    return std::string(quant::format(type).name);
}

// A row length that every format allows.
std::int64_t any_length(Random& random, Type type) {
    const auto block = static_cast<std::int64_t>(quant::format(type).block_elems);
    return block == 1 ? 32 * random.integer(0, 20) + 32 : block * random.integer(1, 512 / block);
}

// Activations that int8 holds exactly, so that quantised weights leave only the error of f32 sums.
Outputs matmul(Device& device, Random& random, Type type, std::int64_t n, std::int64_t n_in,
               std::int64_t n_out) {
    const Matrix w = device.matrix(random, type, n_out, n_in);
    const Rows x = device.rows(random.int8_exact(n * n_in), n_in);
    const Rows y = device.result(n, n_out);
    device.backend().matmul(w, {x.data, n, n_in}, y);
    return {{"y", device.download(y), kF32}};
}

Outputs grouped_matmul(Device& device, Random& random, Type type, bool whole_tiles) {
    const std::int64_t n_groups = random.integer(1, 5);
    const std::int64_t n_in = whole_tiles ? 64 * random.integer(1, 6) : any_length(random, type);
    const std::int64_t n_out = n_groups * (whole_tiles ? 32 * random.integer(1, 3) : random.integer(1, 40));
    const std::int64_t n = random.integer(1, 7);
    const Matrix w = device.grouped_matrix(random, type, n_groups, n_out, n_in);
    const Rows x = device.rows(random.int8_exact(n * n_groups * n_in), n_groups * n_in);
    const Rows y = device.result(n, n_out);
    device.backend().grouped_matmul(w, n_groups, x, y);
    return {{"y", device.download(y), kF32}};
}

// Factors of the norm that keep the activations such that int8 holds them exactly.
Outputs norm_matmul(Device& device, Random& random, Type type, std::int64_t n) {
    const std::int64_t n_in = 256 * random.integer(1, 4), n_out = random.integer(1, 100);
    std::vector<float> factors;
    for (std::int64_t i = 0; i < n_in; i += 32)
        factors.insert(factors.end(), 32, random.integer(0, 1) == 0 ? 0.5F : -2.0F);
    const Vector norm = device.vector(factors);
    const Rows x = device.rows(random.int8_exact(n * n_in), n_in);
    const Rows y = device.result(n, n_out), second = device.result(n, 33);
    const Backend::Product products[] = {{device.matrix(random, type, n_out, n_in), y},
                                         {device.matrix(random, Type::q8_0, 33, n_in), second}};
    device.backend().norm_matmul(x, norm, 1e-6F, products);
    return {{"y", device.download(y), kF32}, {"second", device.download(second), kF32}};
}

Outputs rms_norm(Device& device, Random& random, bool weighted, bool in_place) {
    const std::int64_t width = random.integer(1, 600);
    const std::int64_t per_row = weighted ? 1 : random.integer(1, 4);
    const std::int64_t n = random.integer(1, 9);
    // Some rows small enough for eps to count.
    std::vector<float> values = random.gaussian(n * per_row * width);
    for (std::int64_t i = 0; i < width; ++i) values[static_cast<std::size_t>(i)] *= 1e-3F;
    const Rows x = device.rows(values, per_row * width);
    const Rows y = in_place ? x : device.result(n, x.width);
    const Vector w = weighted ? device.vector(random.gaussian(width)) : Vector{};
    device.backend().rms_norm(x, w, width, 1e-6F, y);
    return {{"y", device.download(y), kF32}};
}

Outputs rms_norm_of_zero(Device& device, Random&) {
    const Rows x = device.rows(std::vector<float>(96, 0.0F), 48);
    device.backend().rms_norm(x, Vector{}, 48, 1e-6F, x);
    return {{"y", device.download(x), {}}};
}

Outputs best_of(Device& device, const std::vector<float>& values, std::int64_t width) {
    const Rows x = device.rows(values, width);
    auto* best = device.upload(std::vector<std::int32_t>(static_cast<std::size_t>(x.n), -1));
    device.backend().arg_max(x, best);
    std::vector<float> found;
    for (const std::int32_t i : device.download(best, x.n)) found.push_back(static_cast<float>(i));
    return {{"best", found, {}}};
}

// Rows with some NaN and -infinity, and such of nothing else.
Outputs arg_max(Device& device, Random& random) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    const std::int64_t width = random.integer(0, 1) == 0 ? random.integer(1, 70) : random.integer(1000, 5000);
    const std::int64_t n = random.integer(3, 5);
    std::vector<float> values = random.gaussian(n * width);
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::int64_t kind = random.integer(0, 19);
        const auto row = static_cast<std::int64_t>(i) / width;
        if (kind == 0 || row == 0) values[i] = kNan;
        if (kind == 1 || row == 1) values[i] = -kInfinity;
    }
    return best_of(device, values, width);
}

// The largest in many places, the first of which is found.
Outputs arg_max_of_equals(Device& device, Random& random) {
    const std::int64_t width = random.integer(2000, 5000);
    std::vector<float> values = random.integers(16 * width, 1);
    for (std::int64_t row = 0; row < 16; ++row) {
        const std::int64_t first = random.integer(0, width - 1);
        for (std::int64_t i = 0; i < first; ++i) values[static_cast<std::size_t>(row * width + i)] = -0.0F;
    }
    return best_of(device, values, width);
}

Outputs add(Device& device, Random& random) {
    const std::int64_t width = random.integer(1, 300);
    const std::int64_t copies = random.integer(1, 4);
    const std::int64_t n = random.integer(1, 9);
    const Rows x = device.rows(random.gaussian(n * width), width);
    const Rows y = device.rows(random.gaussian(n * width * copies), width * copies);
    device.backend().add(x, y);
    return {{"y", device.download(y), {}}};
}

Outputs no_rows(Device& device, Random& random) {
    const Matrix w = device.matrix(random, Type::q8_0, 8, 64);
    const Rows x{device.allocate<float>(64), 0, 64};
    const Rows y = device.result(1, 64);
    const Rows none{y.data, 0, 64};
    device.backend().matmul(w, x, {y.data, 0, 8});
    device.backend().rms_norm(x, Vector{}, 64, 1e-6F, none);
    device.backend().add(x, none);
    device.backend().swiglu(none, none, 0);
    return {{"untouched", device.download(y), {}}};
}

Outputs embed(Device& device, Random& random, Type type) {
    const std::int64_t width = any_length(random, type);
    const std::int64_t n_streams = random.integer(1, 4);
    constexpr std::int64_t kVocab = 11;
    const Matrix table = device.matrix(random, type, kVocab, width, 1, Backend::MatrixUse::rows);
    std::vector<TokenId> tokens;
    for (int i = 0; i < 7; ++i) tokens.push_back(static_cast<TokenId>(random.integer(0, kVocab - 1)));
    const Rows streams = device.result(static_cast<std::int64_t>(tokens.size()), n_streams * width);
    device.backend().embed(table, tokens, n_streams, streams);
    return {{"streams", device.download(streams), {}}};
}

HyperConnection random_site(Device& device, Random& random, std::int64_t n_streams, std::int64_t width,
                            Type type, bool head) {
    const std::int64_t n_out = head ? n_streams : n_streams * (2 + n_streams);
    HyperConnection hc;
    hc.fn = device.matrix(random, type, n_out, n_streams * width, 1, Backend::MatrixUse::mixing);
    hc.base = device.vector(random.gaussian(n_out));
    hc.scale = device.vector(random.gaussian(head ? 1 : 3));
    hc.n_streams = n_streams;
    hc.sinkhorn_iterations = static_cast<int>(random.integer(1, 20));
    hc.eps = random.integer(0, 1) == 0 ? 1e-6F : 1e-2F;
    hc.rms_eps = 1e-6F;
    return hc;
}

struct StreamShape {
    std::int64_t n, n_streams, width;
};

StreamShape any_streams(Random& random) {
    return {random.integer(1, 9), random.integer(1, 5), random.integer(1, 300)};
}

Outputs hc_site(Device& device, Random& random, Type type, const StreamShape& shape) {
    const HyperConnection hc = random_site(device, random, shape.n_streams, shape.width, type, false);
    const Rows streams = device.rows(random.gaussian(shape.n * shape.n_streams * shape.width, 3),
                                     shape.n_streams * shape.width);
    const Rows x = device.result(shape.n, shape.width);
    const Rows post = device.result(shape.n, shape.n_streams);
    const Rows comb = device.result(shape.n, shape.n_streams * shape.n_streams);
    device.backend().hc_collapse(hc, streams, x, post, comb);
    Outputs out{{"x", device.download(x), kF32},
                {"post", device.download(post), kF32},
                {"comb", device.download(comb), kF32}};
    device.backend().hc_expand(device.rows(random.gaussian(shape.n * shape.width), shape.width), post, comb,
                               streams);
    out.push_back({"streams", device.download(streams), kF32});
    return out;
}

// What lies between two blocks: expansion, collapse at the next site, norm.
Outputs hc_next(Device& device, Random& random, Type type, const StreamShape& shape, bool head) {
    const auto [n, n_streams, width] = shape;
    const HyperConnection hc = random_site(device, random, n_streams, width, type, head);
    const Rows streams = device.rows(random.gaussian(n * n_streams * width, 3), n_streams * width);
    const Rows y = device.rows(random.gaussian(n * width), width);
    const Rows post = device.rows(random.gaussian(n * n_streams), n_streams);
    const Rows comb = device.rows(random.gaussian(n * n_streams * n_streams, 0.5F), n_streams * n_streams);
    const Rows x = device.result(n, width);
    const Vector norm = device.vector(random.gaussian(width));
    Backend& backend = device.backend();
    backend.hc_expand(y, post, comb, streams);
    if (head) {
        backend.hc_head(hc, streams, x);
    } else {
        backend.hc_collapse(hc, streams, x, post, comb);
    }
    backend.rms_norm(x, norm, width, 1e-6F, x);
    Outputs out{{"x", device.download(x), kF32}, {"streams", device.download(streams), kF32}};
    if (head) return out;
    out.push_back({"post", device.download(post), kF32});
    out.push_back({"comb", device.download(comb), kF32});
    return out;
}

Outputs hc_head(Device& device, Random& random) {
    const auto [n, n_streams, width] = any_streams(random);
    const HyperConnection hc = random_site(device, random, n_streams, width, Type::f32, true);
    const Rows streams = device.rows(random.gaussian(n * n_streams * width, 3), n_streams * width);
    const Rows x = device.result(n, width);
    device.backend().hc_head(hc, streams, x);
    return {{"x", device.download(x), kF32}};
}

Outputs rope(Device& device, Random& random, bool inverse) {
    const std::int64_t n_dims = 2 * random.integer(1, 80);
    const std::int64_t head_dim = n_dims + random.integer(0, 40);
    const std::int64_t n_heads = random.integer(1, 5);
    std::vector<float> frequency;
    for (std::int64_t i = 0; i < n_dims / 2; ++i) {
        frequency.push_back(std::pow(10000.0F, -2 * static_cast<float>(i) / static_cast<float>(n_dims)));
    }
    std::vector<std::int32_t> positions{0, 1, 1048575};
    while (positions.size() < 6) positions.push_back(static_cast<std::int32_t>(random.integer(0, 1 << 20)));
    const Rows x = device.rows(random.gaussian(6 * n_heads * head_dim), n_heads * head_dim);
    device.backend().rope({frequency.data(), n_dims}, positions, head_dim, inverse, x);
    return {{"x", device.download(x), kF32}};
}

Outputs round_fp8(Device& device, Random& random) {
    const std::int64_t n_skip = random.integer(0, 70);
    const std::int64_t width = 64 * random.integer(1, 7) + n_skip;
    const Rows x = device.rows(random.gaussian(random.integer(1, 9) * width, 5), width);
    device.backend().round_fp8(x, n_skip, random.integer(0, 1) == 1);
    return {{"x", device.download(x), {}}};
}

Outputs round_hadamard_fp4(Device& device, Random& random) {
    const std::int64_t head_dim = std::int64_t{32} << random.integer(0, 2);
    const std::int64_t width = head_dim * random.integer(1, 5);
    const Rows x = device.rows(random.gaussian(random.integer(1, 9) * width), width);
    device.backend().round_hadamard_fp4(x, head_dim);
    return {{"x", device.download(x), {}}};
}

Outputs swiglu(Device& device, Random& random, float clamp, float deviation) {
    const std::int64_t width = random.integer(1, 300);
    const std::int64_t n = random.integer(1, 9);
    const Rows gate = device.rows(random.gaussian(n * width, deviation), width);
    const Rows up = device.rows(random.gaussian(n * width, deviation), width);
    device.backend().swiglu(gate, up, clamp);
    return {{"gate", device.download(gate), kF32}};
}

}  // namespace

std::vector<OpCase> dense_cases() {
    std::vector<OpCase> cases;
    for (const Type type : kWeightTypes) {
        cases.push_back({"matmul_" + name_of(type), 8, [type](Device& d, Random& r) {
                             const std::int64_t n_in = any_length(r, type);
                             const std::int64_t n = r.integer(1, 11);
                             return matmul(d, r, type, n, n_in, r.integer(1, 200));
                         }});
        cases.push_back(
            {"embed_" + name_of(type), 3, [type](Device& d, Random& r) { return embed(d, r, type); }});
    }
    for (const Type type : {Type::q8_0, Type::iq2_xxs}) {
        cases.push_back({"matmul_flash_" + name_of(type), 1,
                         [type](Device& d, Random& r) { return matmul(d, r, type, 6, 4096, 2048); }});
    }
    for (const Type type : {Type::f32, Type::q8_0, Type::q4_k}) {
        cases.push_back({"grouped_matmul_" + name_of(type), 8,
                         [type](Device& d, Random& r) { return grouped_matmul(d, r, type, false); }});
    }
    cases.push_back({"grouped_matmul_tiles", 4,
                     [](Device& d, Random& r) { return grouped_matmul(d, r, Type::q8_0, true); }});
    for (const bool weighted : {false, true}) {
        cases.push_back({weighted ? "rms_norm_weighted" : "rms_norm", 8,
                         [weighted](Device& d, Random& r) { return rms_norm(d, r, weighted, false); }});
    }
    cases.push_back(
        {"rms_norm_in_place", 4, [](Device& d, Random& r) { return rms_norm(d, r, true, true); }});
    cases.push_back({"arg_max", 8, arg_max});
    cases.push_back({"arg_max_of_equals", 4, arg_max_of_equals});
    cases.push_back({"rms_norm_of_zero", 1, rms_norm_of_zero});
    for (const Type type : {Type::q8_0, Type::f16, Type::f32}) {
        cases.push_back({"norm_matmul_" + name_of(type), 3,
                         [type](Device& d, Random& r) { return norm_matmul(d, r, type, r.integer(1, 40)); }});
    }
    cases.push_back({"add", 8, add});
    cases.push_back({"no_rows", 1, no_rows});
    for (const Type type : {Type::f32, Type::f16}) {
        cases.push_back({"hc_" + name_of(type), 12,
                         [type](Device& d, Random& r) { return hc_site(d, r, type, any_streams(r)); }});
    }
    cases.push_back({"hc_flash", 1, [](Device& d, Random& r) {
                         return hc_site(d, r, Type::f16, {3, 4, 4096});
                     }});
    for (const bool head : {false, true}) {
        const std::string name = head ? "hc_next_head" : "hc_next";
        cases.push_back({name, 8, [head](Device& d, Random& r) {
                             return hc_next(d, r, Type::f16, any_streams(r), head);
                         }});
        for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
            cases.push_back({name + "_flash_" + name_of(type), 1, [type, head](Device& d, Random& r) {
                                 return hc_next(d, r, type, {19, 4, 4096}, head);
                             }});
        }
    }
    cases.push_back({"hc_head", 8, hc_head});
    for (const bool inverse : {false, true}) {
        cases.push_back({inverse ? "rope_inverse" : "rope", 8,
                         [inverse](Device& d, Random& r) { return rope(d, r, inverse); }});
    }
    cases.push_back({"round_fp8", 8, round_fp8});
    cases.push_back({"round_hadamard_fp4", 8, round_hadamard_fp4});
    cases.push_back({"swiglu", 8, [](Device& d, Random& r) { return swiglu(d, r, 10, 8); }});
    cases.push_back({"swiglu_unclamped", 8, [](Device& d, Random& r) { return swiglu(d, r, 0, 8); }});
    cases.push_back({"swiglu_huge", 4, [](Device& d, Random& r) { return swiglu(d, r, 0, 1000); }});
    return cases;
}

}  // namespace ds4::test
