#include "backend/gpu/placement.h"

#include <algorithm>

#include "backend/gpu/matrix_args.h"
#include "backend/gpu/tile_layout.h"

namespace ds4::gpu {
namespace {

// What the kernels for dense products ask for: whole steps of 64 inputs.
bool suits_products(const Matrix& m) {
    return (m.type == quant::Type::q8_0 || m.type == quant::Type::f16) && m.stack == 1 && m.n_in % 64 == 0;
}

bool same_shape(const Matrix& a, const Matrix& b) {
    return a.type == b.type && a.n_in == b.n_in && a.n_out == b.n_out && a.stack == b.stack;
}

// Whole blocks of 256 for the activations between the products; two row tiles at a time (cuda/matrix.h).
bool suits_experts(const Experts& e) {
    constexpr std::int64_t kMaxIn = 4096, kMaxWidth = 2048;
    return same_shape(e.gate, e.up) && e.gate.n_in % kActInputs == 0 && e.gate.n_in <= kMaxIn &&
           e.gate.n_out % kActInputs == 0 && e.gate.n_out <= kMaxWidth && e.down.n_in == e.gate.n_out &&
           e.down.n_out % (2 * tiles::kRows) == 0 && e.down.stack == e.gate.stack &&
           e.gate.stack <= kMaxSortedExperts;
}
bool suits_routing(const Experts& e) {
    return suits_experts(e) && (e.gate.type == quant::Type::iq2_xxs || e.gate.type == quant::Type::q4_k) &&
           (e.down.type == quant::Type::q2_k || e.down.type == quant::Type::q4_k);
}
bool suits_sharing(const Experts& e) {
    return suits_experts(e) && e.gate.stack == 1 && e.gate.type == quant::Type::q8_0 &&
           e.down.type == quant::Type::q8_0;
}

std::size_t file_bytes(const Matrix& m) {
    return static_cast<std::size_t>(m.stack * m.n_out) * m.row_bytes;
}

}  // namespace

double placed_bytes(quant::Type type, std::int64_t n_in, std::int64_t n_out, std::int64_t stack,
                    Backend::MatrixUse use) {
    if (use == Backend::MatrixUse::added) return static_cast<double>(n_in * n_out * stack) * sizeof(float);
    const auto in_file =
        static_cast<double>(quant::row_bytes(quant::format(type), static_cast<std::size_t>(n_in)));
    const double file = in_file * static_cast<double>(n_out * stack);
    const std::optional<tiles::Layout> layout = tile_layout(type);
    if (!layout) return file;
    return std::max(file, static_cast<double>(tile_bytes(*layout, n_in, n_out)) * static_cast<double>(stack));
}

Matrix Placement::place(const Matrix& host, Backend::MatrixUse use) {
    if (use == Backend::MatrixUse::added) return as_f32(host);
    const bool suits =
        device_.multiplies_tiles() && use == Backend::MatrixUse::product && suits_products(host);
    return suits ? in_tiles(host) : as_in_the_file(host);
}

// The rows of a group begin at a tile, and 32 of them belong to one group.
Matrix Placement::place_grouped(const Matrix& host, std::int64_t n_groups) {
    const bool suits = device_.multiplies_tiles() && host.type == quant::Type::q8_0 && suits_products(host) &&
                       host.n_out % (n_groups * 2 * tiles::kRows) == 0;
    return suits ? in_tiles(host) : as_in_the_file(host);
}

Experts Placement::place_experts(const Experts& host) {
    Experts placed = host;
    if (!device_.multiplies_tiles() || !(suits_routing(host) || suits_sharing(host))) {
        for (Matrix* m : {&placed.gate, &placed.up, &placed.down}) *m = as_in_the_file(*m);
        return placed;
    }
    interleave(placed.gate, placed.up);
    placed.down = in_tiles(host.down);
    return placed;
}

Matrix Placement::as_in_the_file(const Matrix& host) {
    Matrix placed = host;
    placed.data = allocate(file_bytes(host));
    device_.upload(const_cast<std::byte*>(placed.data), host.data, file_bytes(host));
    return placed;
}

// Kernels that read it at every turn have no room for the code of every format.
Matrix Placement::as_f32(const Matrix& host) {
    const auto n = static_cast<std::size_t>(host.n_in * host.n_out * host.stack);
    std::vector<float> values(n);
    quant::format(host.type).decode(host.data, values.data(), n);
    Matrix placed = host;
    placed.type = quant::Type::f32;
    placed.row_bytes = static_cast<std::size_t>(host.n_in) * sizeof(float);
    std::byte* to = allocate(n * sizeof(float));
    device_.upload(to, values.data(), n * sizeof(float));
    placed.data = to;
    return placed;
}

Matrix Placement::in_tiles(const Matrix& host) {
    const std::size_t each = tile_bytes(*tile_layout(host.type), host.n_in, host.n_out);
    std::byte* tiles = allocate(static_cast<std::size_t>(host.stack) * each);
    repack(host, tiles, 1, 0);
    Matrix placed = host;
    placed.data = nullptr;
    placed.tiles = tiles;
    return placed;
}

void Placement::interleave(Matrix& gate, Matrix& up) {
    const tiles::Layout layout = *tile_layout(gate.type);
    std::byte* tiles =
        allocate(static_cast<std::size_t>(gate.stack) * 2 * tile_bytes(layout, gate.n_in, gate.n_out));
    repack(gate, tiles, 2, 0);
    repack(up, tiles, 2, 1);
    gate.tiles = tiles;
    up.tiles = tiles + tile_bytes(layout, gate.n_in, tiles::kRows);
    for (Matrix* m : {&gate, &up}) {
        m->data = nullptr;
        m->tile_step = 2;
    }
}

// As many whole matrices of the stack at a time as the staging memory holds, or else rows of one.
void Placement::repack(const Matrix& host, std::byte* to, std::uint32_t tile_step, std::uint32_t tile_first) {
    if (staging_.bytes() == 0) staging_ = Buffer(device_, kStagingBytes);
    const tiles::Layout layout = *tile_layout(host.type);
    const auto matrix_bytes = static_cast<std::size_t>(host.n_out) * host.row_bytes;
    const std::size_t to_bytes = tile_step * tile_bytes(layout, host.n_in, host.n_out);
    const bool is_whole = matrix_bytes <= kStagingBytes;
    const std::int64_t n_rows =
        is_whole ? host.n_out
                 : static_cast<std::int64_t>(kStagingBytes / host.row_bytes) / tiles::kRows * tiles::kRows;
    const std::int64_t n_matrices = is_whole ? static_cast<std::int64_t>(kStagingBytes / matrix_bytes) : 1;
    for (std::int64_t first = 0; first < host.stack; first += n_matrices) {
        const std::int64_t stack = std::min(n_matrices, host.stack - first);
        for (std::int64_t row = 0; row < host.n_out; row += n_rows) {
            const std::int64_t rows = std::min(n_rows, host.n_out - row);
            const std::byte* from = host.data + static_cast<std::size_t>(first) * matrix_bytes +
                                    static_cast<std::size_t>(row) * host.row_bytes;
            const std::size_t bytes = is_whole ? static_cast<std::size_t>(stack) * matrix_bytes
                                               : static_cast<std::size_t>(rows) * host.row_bytes;
            device_.upload(staging_.get(), from, bytes);
            RepackArgs args{};
            args.from = reinterpret_cast<const std::uint8_t*>(staging_.get());
            args.to = reinterpret_cast<std::uint8_t*>(to) + static_cast<std::size_t>(first) * to_bytes +
                      tile_step * tile_bytes(layout, host.n_in, row);
            args.from_bytes = matrix_bytes;
            args.to_bytes = to_bytes;
            args.stack = static_cast<std::uint32_t>(stack);
            args.n_out = static_cast<std::uint32_t>(rows);
            args.n_in = static_cast<std::uint32_t>(host.n_in);
            args.tile_step = tile_step;
            args.tile_first = tile_first;
            args.layout = static_cast<std::uint32_t>(layout);
            const Launch launch =
                make_launch(Kernel::repack, {tiles::divide_up(args.n_out, tiles::kRows), args.stack}, args);
            device_.run({&launch, 1});
        }
    }
}

}  // namespace ds4::gpu
