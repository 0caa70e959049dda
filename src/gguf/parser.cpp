// The reader of GGUF files (model.md 2). It believes no count, length, shape or offset before comparing it
// with the size of the file, so that a lie costs an error and neither memory nor time.
#include <algorithm>
#include <bit>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ds4/error.h"
#include "gguf/cursor.h"
#include "gguf/gguf.h"
#include "gguf/printable.h"

namespace ds4::gguf {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kVersion = 3;
constexpr std::uint32_t kVersionOfBigEndian = 0x03000000;
constexpr std::uint64_t kMinKeyBytes = 8 + 4 + 1;             // length, type, one byte of value
constexpr std::uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;  // length, dims, one dim, type, offset

// Far above what the model needs (1,328 tensors, 60 keys, 260,000 strings). They bound the time that a sparse
// file of terabytes can cost.
constexpr std::uint64_t kMaxTensors = std::uint64_t{1} << 20;
constexpr std::uint64_t kMaxKeys = std::uint64_t{1} << 16;
constexpr std::uint64_t kMaxArrayItems = std::uint64_t{1} << 24;  // of all arrays together
constexpr std::uint64_t kMaxNameBytes = 65535;
// The format asks for a multiple of 8; kernels read f32 and i32 in place.
constexpr std::uint64_t kMinAlignment = 8;
constexpr std::uint64_t kMaxAlignment = std::uint64_t{1} << 16;

}  // namespace

class Parser {
  public:
    Parser(File& file, std::span<const std::byte> bytes) : file_(file), bytes_(bytes), cursor_(bytes) {}

    void parse() {
        parse_header();
        for (std::uint64_t i = 0; i < n_keys_; ++i) parse_key(i);
        parse_alignment();
        for (std::uint64_t i = 0; i < n_tensors_; ++i) parse_tensor(i);
        place_tensors();
        check_overlaps();
    }

  private:
    // The parts of a message are joined only when a check fails: nearly all pass.
    template <class... Parts>
    [[noreturn]] void fail(const Parts&... parts) const {
        std::ostringstream message;
        message << file_.path_.string() << ": ";
        (message << ... << parts);
        throw GgufError(message.str());
    }
    template <class... Parts>
    void require(bool condition, const Parts&... parts) const {
        if (!condition) fail(parts...);
    }

    void parse_header() {
        std::uint32_t magic = 0;
        std::uint32_t version = 0;
        require(cursor_.read(magic), "not a GGUF file: it has only ", bytes_.size(), " bytes");
        require(magic == kMagic, "not a GGUF file: it does not start with 'GGUF'");
        require(cursor_.read(version), "truncated in the header");
        require(version != kVersionOfBigEndian, "a big-endian GGUF file; convert it to little-endian");
        require(version == kVersion, "GGUF version ", version, ", only 3 is supported");
        require(cursor_.read(n_tensors_) && cursor_.read(n_keys_), "truncated in the header");
        check_count(n_tensors_, "tensors", kMinTensorBytes, kMaxTensors);
        check_count(n_keys_, "keys", kMinKeyBytes, kMaxKeys);
        file_.metadata_.reserve(n_keys_);
        file_.tensors_.reserve(n_tensors_);
    }

    void check_count(std::uint64_t n, const char* kind, std::uint64_t min_bytes, std::uint64_t most) const {
        require(n <= cursor_.left() / min_bytes, "the header counts ", n, ' ', kind,
                ", the file has no room for them");
        require(n <= most, "the header counts ", n, ' ', kind, ", at most ", most, " are allowed");
    }

    // `kind` and `index` name the entry in messages until its own name is known.
    std::string_view parse_name(const char* kind, std::uint64_t index) {
        std::string_view name;
        require(cursor_.read_string(name), kind, ' ', index,
                ": truncated, or its name is longer than the rest of the file");
        require(!name.empty(), kind, ' ', index, ": its name is empty");
        require(name.size() <= kMaxNameBytes, kind, ' ', index, ": its name has ", name.size(),
                " bytes, at most ", kMaxNameBytes, " are allowed");
        return name;
    }

    void parse_key(std::uint64_t index) {
        const std::string_view key = parse_name("key", index);
        const std::string what = "key " + printable(key);
        const ValueType type = parse_type(what);
        const Value value = type == ValueType::array ? parse_array(what) : parse_scalar(what, type);
        require(file_.metadata_index_.emplace(key, file_.metadata_.size()).second, what, " stands twice");
        file_.metadata_.emplace_back(key, value);
    }

    ValueType parse_type(const std::string& what) {
        std::uint32_t type = 0;
        require(cursor_.read(type), what, ": truncated");
        require(type <= static_cast<std::uint32_t>(ValueType::f64), what, " has the unknown value type ",
                type);
        return static_cast<ValueType>(type);
    }

    Value parse_scalar(const std::string& what, ValueType type) {
        Value value{type, type, 1, {}};
        if (type == ValueType::string) {
            std::string_view text;
            require(cursor_.read_string(text), what, ": the string is longer than the rest of the file");
            value.bytes = std::as_bytes(std::span(text));
            return value;
        }
        require(cursor_.take(type_size(type), value.bytes), what, ": truncated");
        check_bools(what, value);
        return value;
    }

    Value parse_array(const std::string& what) {
        Value value{ValueType::array, parse_type(what), 0, {}};
        require(value.item_type != ValueType::array, what,
                " is an array of arrays, which no key of this model is");
        require(cursor_.read(value.count), what, ": truncated");
        require(value.count <= kMaxArrayItems - n_items_, what, ": an array of ", value.count,
                " items; all arrays together may have ", kMaxArrayItems);
        n_items_ += value.count;
        if (value.item_type == ValueType::string) {
            value.bytes = take_strings(what, value.count);
            return value;
        }
        require(cursor_.take(value.count * type_size(value.item_type), value.bytes), what, ": an array of ",
                value.count, " items is longer than the rest of the file");
        check_bools(what, value);
        return value;
    }

    std::span<const std::byte> take_strings(const std::string& what, std::uint64_t count) {
        const std::uint64_t start = cursor_.position();
        std::string_view text;
        for (std::uint64_t i = 0; i < count; ++i) {
            require(cursor_.read_string(text), what, ": string ", i, " of ", count,
                    " is longer than the rest of the file");
        }
        return bytes_.subspan(start, cursor_.position() - start);
    }

    void check_bools(const std::string& what, const Value& value) const {
        if (value.item_type != ValueType::boolean) return;
        for (const std::byte b : value.bytes) {
            require(std::to_integer<int>(b) <= 1, what, " has a bool that is neither 0 nor 1");
        }
    }

    void parse_alignment() {
        const Value* value = file_.find("general.alignment");
        if (value == nullptr) return;
        require(value->type == ValueType::u32, "key general.alignment must be u32, it is ",
                type_name(value->type));
        file_.alignment_ = *file_.find_uint("general.alignment");
        require(std::has_single_bit(file_.alignment_) && file_.alignment_ >= kMinAlignment &&
                    file_.alignment_ <= kMaxAlignment,
                "key general.alignment is ", file_.alignment_, ", it must be a power of two from ",
                kMinAlignment, " to ", kMaxAlignment);
    }

    void parse_tensor(std::uint64_t index) {
        Tensor t{};
        t.name = parse_name("tensor", index);
        const std::string what = "tensor " + printable(t.name);
        parse_dimensions(what, t);
        std::uint32_t type = 0;
        require(cursor_.read(type) && cursor_.read(t.offset), what, ": truncated");
        t.format = quant::find_format(type);
        require(t.format != nullptr, what, " has the type ", type, ", which ds4 does not know");
        require(t.ne[0] % t.format->block_elems == 0, what, ": rows of ", t.ne[0],
                " are not whole blocks of ", t.format->name, " (", t.format->block_elems, ")");
        require(file_.tensor_index_.emplace(t.name, file_.tensors_.size()).second, what, " stands twice");
        file_.tensors_.push_back(t);
    }

    void parse_dimensions(const std::string& what, Tensor& t) {
        std::uint32_t n_dims = 0;
        require(cursor_.read(n_dims), what, ": truncated");
        require(n_dims >= 1 && n_dims <= t.ne.size(), what, " has ", n_dims,
                " dimensions, it must be 1 to 4");
        t.n_dims = static_cast<int>(n_dims);
        t.ne.fill(1);
        std::uint64_t elements = 1;
        for (std::uint32_t d = 0; d < n_dims; ++d) {
            require(cursor_.read(t.ne[d]), what, ": truncated");
            require(t.ne[d] > 0, what, " has a dimension of 0");
            require(!__builtin_mul_overflow(elements, t.ne[d], &elements), what,
                    ": the product of its dimensions overflows");
        }
    }

    // The data section starts at the next multiple of the alignment behind the directory.
    void place_tensors() {
        const std::uint64_t alignment = file_.alignment_;
        const std::uint64_t start = (cursor_.position() + alignment - 1) / alignment * alignment;
        const std::uint64_t available = bytes_.size() - std::min<std::uint64_t>(start, bytes_.size());
        for (Tensor& t : file_.tensors_) {
            const std::string what = "tensor " + printable(t.name);
            std::uint64_t size = 0;
            require(
                !__builtin_mul_overflow(t.elements() / t.format->block_elems, t.format->block_bytes, &size),
                what, ": its size overflows");
            require(t.offset % alignment == 0, what, ": offset ", t.offset,
                    " is not a multiple of the alignment ", alignment);
            require(t.offset <= available && size <= available - t.offset, what, ": its ", size,
                    " bytes at offset ", t.offset,
                    " reach beyond the end of the file; it is truncated or broken");
            t.data = bytes_.subspan(start + t.offset, size);
        }
    }

    // Two tensors may name exactly the same bytes with the same type and shape (an alias); any other overlap
    // is a lie. Counts the bytes.
    void check_overlaps() {
        std::vector<const Tensor*> order;
        order.reserve(file_.tensors_.size());
        for (const Tensor& t : file_.tensors_) order.push_back(&t);
        std::sort(order.begin(), order.end(), [](const Tensor* a, const Tensor* b) {
            return std::pair(a->offset, a->data.size()) < std::pair(b->offset, b->data.size());
        });
        const Tensor* before = nullptr;
        for (const Tensor* t : order) {
            if (before == nullptr || t->offset >= before->offset + before->data.size()) {
                file_.data_bytes_ += t->data.size();
            } else {
                const bool is_alias =
                    before->offset == t->offset && before->format == t->format && before->ne == t->ne;
                require(is_alias, "tensors ", printable(before->name), " and ", printable(t->name),
                        " overlap");
            }
            before = t;
        }
    }

    File& file_;
    std::span<const std::byte> bytes_;
    Cursor cursor_;
    std::uint64_t n_tensors_ = 0;
    std::uint64_t n_keys_ = 0;
    std::uint64_t n_items_ = 0;  // of the arrays so far
};

File File::open(const std::filesystem::path& path) {
    MappedFile map = MappedFile::open(path);
    File file = parse(map.bytes(), path);
    file.map_ = std::move(map);
    return file;
}

File File::parse(std::span<const std::byte> bytes, const std::filesystem::path& name) {
    File file;
    file.path_ = name;
    Parser(file, bytes).parse();
    return file;
}

}  // namespace ds4::gguf
