#include "backend/gpu/upload_ring.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <string>

#include "base/mapped_file.h"
#include "ds4/error.h"
#include "temporary_directory.h"

namespace ds4::gpu {
namespace {

// Copies as late as it may.
class LazyCopies final : public CopyEngine {
  public:
    ~LazyCopies() override { EXPECT_EQ(n_pinned, 0); }

    std::byte* pin(std::size_t bytes) override {
        if (n_pinned == n_pinnable) throw DeviceError("cannot pin");
        ++n_pinned;
        return new std::byte[bytes];
    }
    void unpin(std::byte* memory) noexcept override {
        --n_pinned;
        delete[] memory;
    }
    void start(std::size_t slot, void* to, const std::byte* from, std::size_t bytes) override {
        EXPECT_FALSE(pending_.at(slot)) << "a slot was used before its copy was done";
        pending_.at(slot) = Copy{to, from, bytes};
        ++n_started;
    }
    void await(std::size_t slot) override {
        if (fails) throw DeviceError("gone");
        if (!pending_.at(slot)) return;
        std::memcpy(pending_.at(slot)->to, pending_.at(slot)->from, pending_.at(slot)->bytes);
        pending_.at(slot).reset();
    }
    void finish() {
        for (std::size_t i = 0; i < pending_.size(); ++i) await(i);
    }

    int n_pinned = 0, n_pinnable = 100, n_started = 0;
    bool fails = false;

  private:
    struct Copy {
        void* to;
        const std::byte* from;
        std::size_t bytes;
    };
    std::array<std::optional<Copy>, 8> pending_;
};

std::string some_text(std::size_t n) {
    std::string text;
    for (int i = 0; text.size() < n; ++i) text += std::to_string(i);
    text.resize(n);
    return text;
}

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

TEST(UploadRing, CopiesEveryByteWhateverTheSizes) {
    LazyCopies copies;
    UploadRing ring(copies, {.slot_bytes = 1000, .n_slots = 3, .grain = 64, .n_threads = 2});
    for (const std::size_t n : {0, 1, 63, 64, 65, 999, 1000, 1001, 3000, 7777}) {
        std::string text = some_text(n), copy(n, '?');
        const std::string expected = text;
        ring.upload(copy.data(), bytes_of(text));
        text.assign(n, '!');  // ours again
        copies.finish();
        EXPECT_EQ(copy, expected) << n;
    }
    EXPECT_EQ(copies.n_started, 0 + 6 * 1 + 2 + 3 + 8);
}

TEST(UploadRing, ReadsMappedFiles) {
    const test::TemporaryDirectory dir;
    const std::string text = some_text(100'000);
    test::write_file(dir / "f", text);
    const MappedFile file = MappedFile::open(dir / "f");
    LazyCopies copies;
    std::string copy(50'000, '?');  // outlives the ring, which finishes what it has begun
    UploadRing ring(copies, {.slot_bytes = 4096, .n_slots = 2, .grain = 512, .n_threads = 2});
    ring.upload(copy.data(), file.bytes().subspan(12'345, copy.size()));
    copies.finish();
    EXPECT_EQ(copy, text.substr(12'345, copy.size()));
    std::filesystem::resize_file(dir / "f", 60'000);
    EXPECT_THROW(ring.upload(copy.data(), file.bytes().last(50'000)), IoError);
}

TEST(UploadRing, LeavesNothingPinnedWhenTheDeviceFails) {
    LazyCopies copies;
    copies.n_pinnable = 2;
    const UploadRing::Options options{.slot_bytes = 100, .n_slots = 3, .grain = 10, .n_threads = 1};
    EXPECT_THROW(UploadRing(copies, options), DeviceError);
    EXPECT_EQ(copies.n_pinned, 0);
    copies.n_pinnable = 3;
    std::string text = some_text(250), copy(250, '?');
    UploadRing ring(copies, options);
    ring.upload(copy.data(), bytes_of(text));
    copies.fails = true;
    EXPECT_THROW(ring.upload(copy.data(), bytes_of(text)), DeviceError);
}

}  // namespace
}  // namespace ds4::gpu
