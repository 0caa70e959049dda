#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/app.h"
#include "apps/debug/commands.h"
#include "backend/reference/reference.h"
#include "ds4/error.h"
#include "gguf/check.h"
#include "gguf/gguf.h"
#include "model/config.h"
#include "model/kv_state.h"
#include "model/step_cost.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace ds4::debug {
namespace {

struct Options {
    std::filesystem::path model;
    std::int64_t context = 0;  // 0: 32768, or the model's maximum if that is smaller
    std::int64_t max_batch = 512;
    bool check = false;
};

template <class T>
T read_as(const std::byte* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

std::string scalar_text(gguf::ValueType type, const std::byte* at) {
    using enum gguf::ValueType;
    switch (type) {
        case u8:
            return std::to_string(read_as<std::uint8_t>(at));
        case i8:
            return std::to_string(read_as<std::int8_t>(at));
        case u16:
            return std::to_string(read_as<std::uint16_t>(at));
        case i16:
            return std::to_string(read_as<std::int16_t>(at));
        case u32:
            return std::to_string(read_as<std::uint32_t>(at));
        case i32:
            return std::to_string(read_as<std::int32_t>(at));
        case u64:
            return std::to_string(read_as<std::uint64_t>(at));
        case i64:
            return std::to_string(read_as<std::int64_t>(at));
        case boolean:
            return read_as<std::uint8_t>(at) != 0 ? "true" : "false";
        case f32:
        case f64: {
            std::array<char, 32> text{};
            const double value = type == f32 ? static_cast<double>(read_as<float>(at)) : read_as<double>(at);
            std::snprintf(text.data(), text.size(), "%g", value);
            return text.data();
        }
        case string:
        case array:
            break;
    }
    return "?";
}

// At most this many characters of a value: vocabularies are long.
constexpr std::size_t kShownText = 80;

std::string value_text(const gguf::File& file, std::string_view key, const gguf::Value& value) {
    if (value.type == gguf::ValueType::string) {
        std::string text = "\"" + std::string(file.find_string(key)->substr(0, kShownText)) + "\"";
        std::replace_if(
            text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; }, ' ');
        return text;
    }
    if (value.type != gguf::ValueType::array) return scalar_text(value.type, value.bytes.data());
    std::string text = std::to_string(value.count) + " items";
    if (value.item_type == gguf::ValueType::string || value.count == 0) return text;
    text += ":";
    const std::size_t size = value.bytes.size() / value.count;
    for (std::uint64_t i = 0; i < value.count && text.size() < kShownText; ++i) {
        text += " " + scalar_text(value.item_type, value.bytes.data() + i * size);
    }
    return text;
}

void print_metadata(const gguf::File& file) {
    std::cout << file.path().string() << "\n\nmetadata\n";
    for (const auto& [key, value] : file.metadata()) {
        std::cout << "  " << key << " = " << value_text(file, key, value) << '\n';
    }
}

struct ClassSum {
    std::size_t n_tensors = 0;
    double elements = 0, bytes = 0, touched = 0;
    std::map<std::string_view, std::size_t> types;
};

void print_tensors(const gguf::File& file, const Config* config) {
    std::map<std::string_view, ClassSum> sums;
    ClassSum total;
    for (const gguf::Tensor& t : file.tensors()) {
        for (ClassSum* sum : {&sums[tensor_class(t.name)], &total}) {
            ++sum->n_tensors;
            sum->elements += static_cast<double>(t.elements());
            sum->bytes += static_cast<double>(t.data.size());
            ++sum->types[t.format->name];
        }
    }
    if (config != nullptr) {
        // A long context: the indexer has to choose.
        for (const ClassCost& c : step_costs(file.tensors(), *config, {config->max_context, 1})) {
            const auto sum = sums.find(c.title);
            if (sum == sums.end()) continue;  // of the history, no tensor
            sum->second.touched = c.cost.bytes;
            total.touched += c.cost.bytes;
        }
    }
    const auto print = [](std::string_view title, const ClassSum& sum) {
        std::string types;
        for (const auto& [name, n] : sum.types) types += " " + std::string(name) + "*" + std::to_string(n);
        std::printf("  %-28.*s %7zu %16.0f %18.0f %18.0f %s\n", static_cast<int>(title.size()), title.data(),
                    sum.n_tensors, sum.elements, sum.bytes, sum.touched, types.c_str());
    };
    std::printf("\n  %-28s %7s %16s %18s %18s  %s\n", "tensors", "count", "elements", "bytes",
                "bytes per token", "types");
    for (const auto& [title, sum] : sums) print(title, sum);
    print("total", total);
    if (static_cast<double>(file.data_bytes()) < total.bytes) {
        std::printf("  %-28s %7s %16s %18llu\n", "in the file, shared once", "", "",
                    static_cast<unsigned long long>(file.data_bytes()));
    }
    std::fflush(stdout);
}

void print_plan(const gguf::File& file, const Config& config, const Options& options) {
    const auto weights = static_cast<double>(file.data_bytes());
    const auto kv = static_cast<double>(
        KvLayout(config, config.ratios, quant::KvFormat::packed).bytes_for(options.context));
    const auto work = static_cast<double>(Workspace::bytes_for(config, options.max_batch));
    std::cout << "\nmemory for one session of " << options.context << " tokens\n"
              << "  weights, mapped    " << app::human_bytes(weights) << '\n'
              << "  KV state           " << app::human_bytes(kv) << '\n'
              << "  activations        " << app::human_bytes(work) << " (steps of " << options.max_batch
              << " rows)\n"
              << "  total              " << app::human_bytes(weights + kv + work) << '\n';
}

int inspect(Options options) {
    const gguf::File file = gguf::File::open(options.model);
    print_metadata(file);
    const bool is_mtp = file.find_string("general.architecture") == "deepseek4_mtp_support";
    if (is_mtp) {
        print_tensors(file, nullptr);
    } else {
        const Config config = Config::from_gguf(file);
        if (options.context == 0) options.context = std::min<std::int64_t>(32768, config.max_context);
        if (options.context > config.max_context) {
            throw ContextError("--ctx " + std::to_string(options.context) + " is more than the model's " +
                               std::to_string(config.max_context));
        }
        print_tensors(file, &config);
        print_plan(file, config, options);
        const std::unique_ptr<Backend> backend = make_reference_backend();
        WeightStore(file, *backend).load_trunk(config);  // throws on any shape that disagrees
        std::cout << "\nall tensors agree with the metadata\n";
    }
    if (options.check) {
        gguf::check_values(file, {});
        std::cout << "no NaN or infinite scale or value\n";
    }
    return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Run& run) {
    CLI::App* command = app.add_subcommand("inspect", "What is in a model file, and what it costs to run");
    auto options = std::make_shared<Options>();
    command->add_option("-m,--model", options->model, "GGUF file (default: as ds4)");
    command
        ->add_option("--ctx", options->context, "Context of the memory plan (32768 or the model's maximum)")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 31));
    command->add_option("--batch", options->max_batch, "Rows of one step in the memory plan")
        ->check(CLI::Range(1, 65536));
    command->add_flag("--check", options->check, "Read every tensor and refuse NaN or infinite scales");
    command->callback([options, &run] {
        run = [options] {
            options->model = app::find_model(options->model);
            return inspect(*options);
        };
    });
}

}  // namespace ds4::debug
