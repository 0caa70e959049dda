#pragma once

#include <cstring>
#include <map>
#include <numeric>

#include "backend/gpu/cuda/matrix.h"
#include "quant/iq2_xxs.h"
#include "support.h"

namespace ds4::gpu::bench {

// The experts of one layer of Flash: 256 of them, 6 a row, chosen at random, other ones at every launch.
class ExpertsCase {
  public:
    static constexpr std::uint32_t kExperts = 256, kUsed = 6, kIn = 4096, kFf = 2048, kMaxRows = 16;
    static constexpr int kLists = 24;

    ExpertsCase(tiles::Layout gate_up, tiles::Layout down) : gate_up_(gate_up), down_(down) {
        std::vector<std::uint32_t> selectors;
        for (const std::uint64_t row : quant::kIq2xxsGrid) selectors.push_back(tiles::iq2_selectors(row));
        selectors_ = Device<std::uint32_t>(selectors);
        gate_ = source(gate_up, kFf, kIn, 501);
        up_ = source(gate_up, kFf, kIn, 502);
        down_source_ = source(down, kIn, kFf, 503);
        gate_up_tiles_ = Device<std::uint8_t>(2 * gate_.size());
        down_tiles_ = Device<std::uint8_t>(down_source_.size());
        repack(gate_up, gate_, kFf, kIn, gate_up_tiles_, 2, 0);
        repack(gate_up, up_, kFf, kIn, gate_up_tiles_, 2, 1);
        repack(down, down_source_, kIn, kFf, down_tiles_, 1, 0);
        make_shared();
        make_inputs();
        for (const std::uint32_t n : {1u, 2u, 4u, 8u, 16u}) {
            for (int i = 0; i < kLists; ++i)
                lists_[n].push_back(random_list(n, static_cast<std::uint32_t>(i)));
        }
    }

    double gate_up_bytes(std::uint32_t n) const {
        return entries(n) * 2 * static_cast<double>(gate_.size()) / kExperts;
    }
    double down_bytes(std::uint32_t n) const {
        return entries(n) * static_cast<double>(down_source_.size()) / kExperts +
               static_cast<double>(shared_bytes_);
    }

    void launch_gate_up(std::uint32_t n, int i, cudaStream_t stream) const {
        launch_gate_up(0, n, lists_.at(n)[static_cast<std::size_t>(i % kLists)], stream);
    }
    void launch_down(std::uint32_t n, int i, cudaStream_t stream) const {
        launch_down(0, n, lists_.at(n)[static_cast<std::size_t>(i % kLists)], i % n_shared_, stream);
    }

    struct Check {
        double error;
        bool rows_keep_their_bits;
    };

    Check check_gate_up() {
        const List& list = lists_.at(kMaxRows)[0];
        act_.poison(), act_sums_.poison(), shared_act_.poison();
        launch_gate_up(0, kMaxRows, list, nullptr);
        check(cudaDeviceSynchronize(), "gate_up");
        const auto act = act_.host();
        const auto act_sums = act_sums_.host();
        Check c{relative_error(values(act), gate_up_reference(list)), act_sums == sums(act)};
        const auto shared = quantised(shared_f32_.host(), 32);
        c.rows_keep_their_bits &=
            std::memcmp(shared.data(), shared_act_.host().data(), shared.size() * sizeof(ActBlock)) == 0;
        const std::size_t blocks = kFf / kActInputs * kUsed;  // of a row
        for (const auto& [first, n] : {std::pair{0u, 1u}, {15u, 1u}, {7u, 2u}, {3u, 9u}}) {
            act_.poison();
            launch_gate_up(first, n,
                           list_of(std::vector(list.ids.begin() + first * kUsed,
                                               list.ids.begin() + (first + n) * kUsed)),
                           nullptr);
            check(cudaDeviceSynchronize(), "gate_up");
            const auto some = act_.host();
            c.rows_keep_their_bits &=
                std::memcmp(some.data(), act.data() + first * blocks, n * blocks * sizeof(ActBlock)) == 0;
        }
        return c;
    }

    Check check_down() {
        const List& list = lists_.at(kMaxRows)[0];
        act_ = Device<ActBlock>(quantised(random_values(std::size_t{kMaxRows} * kUsed * kFf, 77), 32));
        act_sums_ = Device<float>(sums(act_.host()));
        shared_act_ = Device<ActBlock>(quantised(shared_f32_.host(), 32));
        y_.poison();
        launch_down(0, kMaxRows, list, 0, nullptr);
        check(cudaDeviceSynchronize(), "down");
        const auto y = y_.host();
        Check c{relative_error(y, down_reference(list)), true};
        for (const auto& [first, n] : {std::pair{0u, 1u}, {15u, 1u}, {7u, 2u}, {3u, 9u}}) {
            y_.poison();
            launch_down(first, n,
                        list_of(std::vector(list.ids.begin() + first * kUsed,
                                            list.ids.begin() + (first + n) * kUsed)),
                        0, nullptr);
            check(cudaDeviceSynchronize(), "down");
            const auto some = y_.host();
            c.rows_keep_their_bits &=
                std::memcmp(some.data(), y.data() + first * kIn, n * kIn * sizeof(float)) == 0;
        }
        return c;
    }

    // For products of another kind with the same weights.
    tiles::Layout gate_up_layout() const { return gate_up_; }
    tiles::Layout down_layout() const { return down_; }
    const std::uint8_t* gate_up_tiles() const { return gate_up_tiles_.get(); }
    const std::uint8_t* down_tiles() const { return down_tiles_.get(); }
    const std::uint32_t* selectors() const { return selectors_.get(); }
    static std::size_t expert_bytes(tiles::Layout layout) {
        const tiles::Shape s = tiles::shape(layout);
        return std::size_t{kIn} * kFf / s.block_elems * s.block_bytes;
    }
    // y (n, kFf): the activations of one expert for rows x (n, kIn), without weight.
    void expert_act(std::uint32_t expert, const float* x, std::uint32_t n, std::vector<double>& act) const {
        Device<double> y(std::size_t{2} * n * kFf);
        const std::size_t offset = expert * expert_bytes(gate_up_);
        reference_product(gate_up_, gate_.get() + offset, kFf, kIn, x, n, kIn, selectors_.get(), y.get(),
                          kFf);
        reference_product(gate_up_, up_.get() + offset, kFf, kIn, x, n, kIn, selectors_.get(),
                          y.get() + std::size_t{n} * kFf, kFf);
        const auto v = y.host();
        act.resize(std::size_t{n} * kFf);
        for (std::size_t i = 0; i < act.size(); ++i) {
            const double gate = std::min(v[i], 10.0), up = std::clamp(v[act.size() + i], -10.0, 10.0);
            act[i] = gate / (1 + std::exp(-gate)) * up;
        }
    }
    // (n, kIn): down products of one expert for act (n, kFf).
    std::vector<double> expert_down(std::uint32_t expert, const float* act, std::uint32_t n) const {
        Device<double> y(std::size_t{n} * kIn);
        reference_product(down_, down_source_.get() + expert * expert_bytes(down_), kIn, kFf, act, n, kFf,
                          selectors_.get(), y.get(), kIn);
        return y.host();
    }

  private:
    struct List {
        std::vector<std::uint32_t> ids;  // (n, kUsed)
        std::uint32_t n_entries = 0;
        Device<std::uint8_t> device;
        const ExpertList* get() const { return reinterpret_cast<const ExpertList*>(device.get()); }
    };

    static Device<std::uint8_t> source(tiles::Layout layout, std::uint32_t, std::uint32_t,
                                       std::uint32_t seed) {
        Device<std::uint8_t> blocks(kExperts * expert_bytes(layout));
        fill_blocks(layout, blocks.get(), blocks.size() / tiles::shape(layout).block_bytes, seed);
        return blocks;
    }
    static void repack(tiles::Layout layout, const Device<std::uint8_t>& from, std::uint32_t n_out,
                       std::uint32_t n_in, const Device<std::uint8_t>& to, std::uint32_t step,
                       std::uint32_t first) {
        RepackArgs r{};
        r.from = from.get();
        r.to = to.get();
        r.from_bytes = expert_bytes(layout);
        r.to_bytes = step * expert_bytes(layout);
        r.stack = kExperts;
        r.n_out = n_out;
        r.n_in = n_in;
        r.tile_step = step;
        r.tile_first = first;
        r.layout = static_cast<std::uint32_t>(layout);
        check(cuda::launch_repack(r, nullptr), "repack");
        check(cudaDeviceSynchronize(), "repack");
    }
    void make_shared() {
        const tiles::Shape s = tiles::shape(tiles::Layout::q8_0);
        shared_bytes_ = std::size_t{kIn} * kFf / s.block_elems * s.block_bytes;
        shared_source_ = Device<std::uint8_t>(shared_bytes_);
        shared_tiles_ = Device<std::uint8_t>(shared_bytes_ * n_shared_);
        fill_blocks(tiles::Layout::q8_0, shared_source_.get(), shared_bytes_ / s.block_bytes, 504);
        for (int i = 0; i < n_shared_; ++i) {
            RepackArgs r{};
            r.from = shared_source_.get();
            r.to = shared_tiles_.get() + shared_bytes_ * static_cast<std::size_t>(i);
            r.stack = 1, r.n_out = kIn, r.n_in = kFf, r.tile_step = 1;
            r.layout = static_cast<std::uint32_t>(tiles::Layout::q8_0);
            check(cuda::launch_repack(r, nullptr), "repack");
        }
        check(cudaDeviceSynchronize(), "repack");
    }
    void make_inputs() {
        const auto x = quantised(random_values(std::size_t{kMaxRows} * kIn, 55), 256);
        x_ = Device<ActBlock>(x);
        x_sums_ = Device<float>(sums(x));
        x_coded_ = Device<float>(values(x));
        std::vector<float> weight(kMaxRows * kUsed);
        for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = 0.1f + 0.01f * static_cast<float>(i % 29);
        weight_host_ = weight;
        weight_ = Device<float>(weight);
        shared_f32_ = Device<float>(random_values(std::size_t{kMaxRows} * kFf, 56));
        act_ = Device<ActBlock>(quantised(random_values(std::size_t{kMaxRows} * kUsed * kFf, 57), 32));
        act_sums_ = Device<float>(sums(act_.host()));
        shared_act_ = Device<ActBlock>(quantised(shared_f32_.host(), 32));
        y_ = Device<float>(std::size_t{kMaxRows} * kIn);
    }
    static List list_of(std::vector<std::uint32_t> ids) {
        std::map<std::uint32_t, std::vector<std::int32_t>> members;
        for (std::size_t pair = 0; pair < ids.size(); ++pair)
            members[ids[pair]].push_back(static_cast<std::int32_t>(pair));
        std::vector<ExpertEntry> entries;
        for (const auto& [expert, pairs] : members) {
            for (std::size_t i = 0; i < pairs.size(); ++i) {
                if (i % 8 == 0) entries.push_back({static_cast<std::int32_t>(expert), 0, {}, {}});
                entries.back().pair[entries.back().n++] = pairs[i];
            }
        }
        std::vector<std::uint8_t> bytes(16 + entries.size() * sizeof(ExpertEntry));
        const auto n = static_cast<std::int32_t>(entries.size());
        std::memcpy(bytes.data(), &n, sizeof n);
        std::memcpy(bytes.data() + 16, entries.data(), entries.size() * sizeof(ExpertEntry));
        List list;
        list.ids = std::move(ids);
        list.n_entries = static_cast<std::uint32_t>(members.size());
        list.device = Device<std::uint8_t>(bytes);
        return list;
    }
    static List random_list(std::uint32_t n, std::uint32_t seed) {
        std::mt19937 random(1000 * n + seed);
        std::vector<std::uint32_t> ids, all(kExperts);
        std::iota(all.begin(), all.end(), 0u);
        for (std::uint32_t r = 0; r < n; ++r) {
            std::shuffle(all.begin(), all.end(), random);
            ids.insert(ids.end(), all.begin(), all.begin() + kUsed);
        }
        // A crowd at one expert: entries of more than eight pairs.
        if (n == kMaxRows && seed == 0) {
            for (std::uint32_t r = 0; r < 11; ++r) {
                const auto begin = ids.begin() + r * kUsed;
                if (std::find(begin, begin + kUsed, 17u) == begin + kUsed) begin[r % kUsed] = 17;
            }
        }
        return list_of(std::move(ids));
    }
    double entries(std::uint32_t n) const {
        double sum = 0;
        for (const List& l : lists_.at(n)) sum += l.n_entries;
        return sum / kLists;
    }

    void launch_gate_up(std::uint32_t first_row, std::uint32_t n, const List& list,
                        cudaStream_t stream) const {
        GateUpArgs a{};
        a.tiles = gate_up_tiles_.get();
        a.expert_bytes = 2 * expert_bytes(gate_up_);
        a.list = list.get();
        a.x = x_.get() + first_row * (kIn / kActInputs);
        a.x_sums = x_sums_.get() + first_row * (kIn / kSumInputs);
        a.weight = weight_.get() + first_row * kUsed;
        a.grid = selectors_.get();
        a.act = act_.get();
        a.act_sums = act_sums_.get();
        a.shared_f32 = shared_f32_.get() + first_row * kFf;
        a.shared_act = shared_act_.get();
        a.n = n, a.n_in = kIn, a.n_ff = kFf, a.n_used = kUsed;
        a.clamp = 10;
        a.layout = static_cast<std::uint32_t>(gate_up_);
        check(cuda::launch_gate_up(a, stream), "gate_up");
    }
    void launch_down(std::uint32_t first_row, std::uint32_t n, const List& list, int shared_copy,
                     cudaStream_t stream) const {
        DownArgs a{};
        a.tiles = down_tiles_.get();
        a.expert_bytes = expert_bytes(down_);
        a.list = list.get();
        a.act = act_.get() + first_row * kUsed * (kFf / kActInputs);
        a.act_sums = act_sums_.get() + first_row * kUsed * (kFf / kSumInputs);
        a.shared_tiles = shared_tiles_.get() + shared_bytes_ * static_cast<std::size_t>(shared_copy);
        a.shared_act = shared_act_.get() + first_row * (kFf / kActInputs);
        a.y = y_.get();
        a.n = n, a.n_ff = kFf, a.n_out = kIn, a.n_used = kUsed;
        a.layout = static_cast<std::uint32_t>(down_);
        check(cuda::launch_down(a, stream), "down");
    }

    std::vector<double> gate_up_reference(const List& list) const {
        Device<double> y(2 * kFf);
        std::vector<double> out;
        for (std::size_t pair = 0; pair < list.ids.size(); ++pair) {
            const std::size_t offset = list.ids[pair] * expert_bytes(gate_up_);
            const float* x = x_coded_.get() + pair / kUsed * kIn;
            reference_product(gate_up_, gate_.get() + offset, kFf, kIn, x, 1, kIn, selectors_.get(), y.get(),
                              kFf);
            reference_product(gate_up_, up_.get() + offset, kFf, kIn, x, 1, kIn, selectors_.get(),
                              y.get() + kFf, kFf);
            const auto v = y.host();
            for (std::size_t i = 0; i < kFf; ++i) {
                const double gate = std::min(v[i], 10.0), up = std::clamp(v[kFf + i], -10.0, 10.0);
                out.push_back(gate / (1 + std::exp(-gate)) * up * weight_host_[pair]);
            }
        }
        return out;
    }
    std::vector<double> down_reference(const List& list) const {
        const Device<float> x(values(act_.host())), shared(values(shared_act_.host()));
        Device<double> y(std::size_t{kMaxRows} * kIn), one(kIn);
        reference_product(tiles::Layout::q8_0, shared_source_.get(), kIn, kFf, shared.get(), kMaxRows, kFf,
                          nullptr, y.get(), kIn);
        auto out = y.host();
        for (std::size_t pair = 0; pair < list.ids.size(); ++pair) {
            reference_product(down_, down_source_.get() + list.ids[pair] * expert_bytes(down_), kIn, kFf,
                              x.get() + pair * kFf, 1, kFf, selectors_.get(), one.get(), kIn);
            const auto v = one.host();
            for (std::size_t i = 0; i < kIn; ++i) out[pair / kUsed * kIn + i] += v[i];
        }
        return out;
    }

    static constexpr int n_shared_ = 24;
    tiles::Layout gate_up_, down_;
    std::size_t shared_bytes_ = 0;
    Device<std::uint32_t> selectors_;
    Device<std::uint8_t> gate_, up_, down_source_, shared_source_, gate_up_tiles_, down_tiles_, shared_tiles_;
    Device<ActBlock> x_, act_, shared_act_;
    Device<float> x_sums_, x_coded_, weight_, act_sums_, shared_f32_, y_;
    std::vector<float> weight_host_;
    std::map<std::uint32_t, std::vector<List>> lists_;
};

}  // namespace ds4::gpu::bench
