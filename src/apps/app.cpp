#include "apps/app.h"

#include <array>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <new>
#include <sstream>

#include "ds4/error.h"

namespace ds4::app {
namespace {

constexpr const char* kBundled = "ds4-tiny.gguf";

// One line whatever the message holds: file names may contain anything.
std::string one_line(std::string text) {
    for (char& c : text) {
        if (c == '\n' || c == '\r') c = ' ';
    }
    return text;
}

}  // namespace

int main_with(CLI::App& app, int argc, char** argv, const std::function<int()>& run) {
    const auto complain = [&](const std::string& what, int status) {
        std::cerr << app.get_name() << ": " << one_line(what) << '\n';
        return status;
    };
    try {
        app.parse(argc, argv);
        return run();
    } catch (const CLI::CallForHelp& help) {
        return app.exit(help);
    } catch (const CLI::CallForAllHelp& help) {
        return app.exit(help);
    } catch (const CLI::CallForVersion& version) {
        return app.exit(version);
    } catch (const CLI::ParseError& error) {
        return complain(std::string(error.what()) + " (see --help)", 2);
    } catch (const Error& error) {
        return complain(error.what(), 1);
    } catch (const std::bad_alloc&) {
        return complain("out of memory; use a smaller --ctx or a smaller model", 1);
    } catch (const std::exception& error) {
        return complain(error.what(), 1);
    }
}

std::filesystem::path program_directory() {
    std::error_code error;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
    return error ? std::filesystem::path(".") : program.parent_path();
}

std::filesystem::path find_model(const std::filesystem::path& given) {
    if (!given.empty()) return given;
    const std::array<std::filesystem::path, 3> places = {
        std::filesystem::path("ds4flash.gguf"),
        program_directory() / ".." / "share" / "ds4" / kBundled,
        std::filesystem::path(DS4_SOURCE_DIR) / "models" / kBundled,
    };
    for (const auto& place : places) {
        std::error_code error;
        if (std::filesystem::exists(place, error)) return place.lexically_normal();
    }
    throw IoError("no model: there is no ./ds4flash.gguf and the bundled models/" + std::string(kBundled) +
                  " is gone; name one with -m FILE.gguf");
}

std::string read_text(const std::filesystem::path& path) {
    if (path == "-") return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) throw IoError(path.string() + ": is a directory");
    std::ifstream file(path, std::ios::binary);
    if (!file) throw IoError(path.string() + ": cannot open for reading");
    std::ostringstream text;
    text << file.rdbuf();
    if (file.bad()) throw IoError(path.string() + ": cannot read");
    return std::move(text).str();
}

void add_backend_options(CLI::App& app, BackendKind& backend) {
    static const std::map<std::string, BackendKind> kNames = {{"auto", BackendKind::automatic},
                                                              {"cpu", BackendKind::cpu},
                                                              {"cuda", BackendKind::cuda},
                                                              {"emulated", BackendKind::emulated},
                                                              {"reference", BackendKind::reference}};
    app.add_option_function<std::string>(
           "--backend", [&](const std::string& name) { backend = kNames.at(name); },
           "cpu, cuda, or the slow ones for developers: emulated, reference (auto)")
        ->check(CLI::IsMember(kNames));
    app.add_flag_callback(
        "--cpu", [&] { backend = BackendKind::cpu; }, "The same as --backend cpu");
    app.add_flag_callback(
        "--cuda", [&] { backend = BackendKind::cuda; }, "The same as --backend cuda");
}

void add_prefill_chunk_option(CLI::App& app, std::int64_t& max_batch) {
    app.add_option("--prefill-chunk", max_batch, "Most tokens per step; 0 is 512 on a CPU, 2048 on a GPU (0)")
        ->check(CLI::Range(0, 65536));
}

std::string human_bytes(double bytes) {
    constexpr std::array<const char*, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
    std::size_t unit = 0;
    while (bytes >= 1000 && unit + 1 < kUnits.size()) {
        bytes /= 1000;
        ++unit;
    }
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.2f %s", bytes, kUnits[unit]);
    return text.data();
}

}  // namespace ds4::app
