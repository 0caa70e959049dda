// make_corpus DIR: writes the seeds DIR/gguf/* and DIR/safetensors/*, small files that use every part of the
// formats.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gguf/writer.h"
#include "kv/file_format.h"

namespace {

using ds4::gguf::Writer;

void write_gguf(const std::filesystem::path& path, std::uint32_t alignment, bool metadata, bool tensors) {
    Writer writer(path, alignment);
    if (metadata) {
        writer.set_u32("u32", 1);
        writer.set_i32("i32", -1);
        writer.set_u64("u64", 1);
        writer.set_f32("f32", 1.5f);
        writer.set_bool("bool", true);
        writer.set_string("string", "text");
        writer.set_i32_array("i32s", std::vector<std::int32_t>{0, 4, 128});
        writer.set_u32_array("u32s", std::vector<std::uint32_t>{1, 2});
        writer.set_f32_array("f32s", std::vector<float>{10, 10});
        writer.set_string_array("strings", std::vector<std::string>{"a", "", "bc"});
    }
    std::vector<std::size_t> sizes;
    if (tensors) {
        for (const ds4::quant::Format& format : ds4::quant::formats()) {
            writer.add_tensor(format.name, format.type, std::vector<std::uint64_t>{format.block_elems, 2});
            sizes.push_back(2 * format.block_bytes);
        }
        writer.add_alias("alias", "F32");
    }
    writer.begin();
    for (const std::size_t size : sizes) writer.write(std::vector<std::byte>(size, std::byte{1}));
    writer.commit();
}

void write_safetensors(const std::filesystem::path& path, const std::string& header, std::size_t data_bytes) {
    const std::uint64_t length = header.size();
    char bytes[sizeof length];
    std::memcpy(bytes, &length, sizeof length);
    std::ofstream(path, std::ios::binary).write(bytes, sizeof bytes)
        << header << std::string(data_bytes, '\x01');
}

void write_checkpoint(const std::filesystem::path& path, bool has_parent) {
    ds4::kv::FileHeader h;
    h.reason = ds4::kv::Reason::cold;
    h.n_tokens = 10;
    h.text = "some text";
    h.key_bytes = h.text.size();
    h.fingerprint = h.tokens_sha1 = std::string(40, 'a');
    if (has_parent) {
        h.parent = h.parent_tokens_sha1 = std::string(40, 'b');
        h.n_parent_tokens = 4;
        h.parent_key_bytes = 3;
        h.key_bytes += 3;
    }
    const std::string map = ds4::kv::encode_tool_map(std::vector<ds4::kv::ToolMapEntry>{{"call_1", "block"}});
    h.tool_map_bytes = map.size();
    const std::uint64_t sizes[] = {std::uint64_t{4} * (h.n_tokens - h.n_parent_tokens), 24, 16, 8};
    ds4::kv::lay_out(h, sizes);
    const std::string head = ds4::kv::encode_header(h);
    std::ofstream(path, std::ios::binary)
        << head << std::string(h.file_bytes() - head.size() - map.size(), '\x02') << map;
}

void make(const std::filesystem::path& directory) {
    std::filesystem::create_directories(directory / "kv_file");
    write_checkpoint(directory / "kv_file" / "first", false);
    write_checkpoint(directory / "kv_file" / "second", true);
    std::ofstream(directory / "kv_file" / "tool_map", std::ios::binary)
        << ds4::kv::encode_tool_map(std::vector<ds4::kv::ToolMapEntry>{{"a", "b"}, {"call_2", "<x>"}});
    std::filesystem::create_directories(directory / "gguf");
    std::filesystem::create_directories(directory / "safetensors");
    write_gguf(directory / "gguf" / "empty", 32, false, false);
    write_gguf(directory / "gguf" / "metadata", 32, true, false);
    write_gguf(directory / "gguf" / "tensors", 32, false, true);
    write_gguf(directory / "gguf" / "all-align-8", 8, true, true);
    write_safetensors(directory / "safetensors" / "empty", "{}", 0);
    write_safetensors(directory / "safetensors" / "matrix",
                      R"({"m.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}})", 12);
    write_safetensors(
        directory / "safetensors" / "scaled",
        R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F8_E4M3","shape":[2,4],"data_offsets":[0,8]},)"
        R"("s":{"dtype":"F8_E8M0","shape":[1,1],"data_offsets":[8,9]},)"
        R"("n":{"dtype":"I64","shape":[0],"data_offsets":[9,9]},)"
        R"("x":{"dtype":"F32","shape":[],"data_offsets":[9,13]}} )",
        13);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        make(argc > 1 ? argv[1] : "corpus");
    } catch (const std::exception& error) {
        std::fprintf(stderr, "make_corpus: %s\n", error.what());
        return 1;
    }
}
