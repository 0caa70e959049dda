// ds4-debug kv: what is in a directory of checkpoints. Needs no model.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>

#include "apps/app.h"
#include "apps/debug/commands.h"
#include "kv/verify.h"

namespace ds4::debug {
namespace {

using kv::Directory;

constexpr std::size_t kShortName = 12;
constexpr std::size_t kShownText = 300;

struct Options {
    std::filesystem::path directory;
    std::string name;          // or its beginning
    std::uint64_t max_mb = 0;  // 0: no limit
};

std::uint64_t unix_seconds() {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
            .count());
}

Directory open_directory(const Options& o) {
    if (!std::filesystem::is_directory(o.directory)) {
        throw IoError(o.directory.string() + ": is no directory; give the one of --kv-disk-dir");
    }
    const std::uint64_t most = o.max_mb == 0 ? ~std::uint64_t{0} : o.max_mb << 20;
    return Directory(
        {o.directory, most, unix_seconds, [](const std::string& line) { std::cerr << line << '\n'; }});
}

const char* name_of(kv::KeyKind kind) {
    return kind == kv::KeyKind::tokens              ? "tokens"
           : kind == kv::KeyKind::responses_visible ? "responses"
                                                    : "thinking";
}

void print_tree(
    const std::multimap<std::string, const std::pair<const std::string, Directory::Entry>*>& children,
    const std::string& parent, int depth) {
    const auto [begin, end] = children.equal_range(parent);
    for (auto child = begin; child != end; ++child) {
        const auto& [name, entry] = *child->second;
        const kv::FileHeader& h = entry.header;
        const std::uint64_t now = unix_seconds();
        const double hours = static_cast<double>(now - std::min(now, h.last_used)) / 3600;
        std::printf("%-*s%s  %s  %8u tokens  %12llu bytes  %-9s  %-9s  %3u hits  %6.1f h\n", 2 * depth, "",
                    name.substr(0, kShortName).c_str(), h.tokens_sha1.substr(0, kShortName).c_str(),
                    h.n_tokens, static_cast<unsigned long long>(entry.file_bytes), kv::to_string(h.reason),
                    name_of(h.key_kind), h.hits, hours);
        print_tree(children, name, depth + 1);
    }
}

// Files under those they go on from.
int list(const Options& o) {
    const Directory directory = open_directory(o);
    std::multimap<std::string, const std::pair<const std::string, Directory::Entry>*> children;
    for (const auto& entry : directory.entries()) {
        children.emplace(directory.lacks_beginning(entry.second) ? "missing" : entry.second.header.parent,
                         &entry);
    }
    std::printf("name          tokens sha1\n");
    print_tree(children, "", 0);
    if (children.contains("missing")) std::printf("without their beginning:\n");
    print_tree(children, "missing", 1);
    std::printf("%zu files, %llu bytes\n", directory.entries().size(),
                static_cast<unsigned long long>(directory.total_bytes()));
    std::fflush(stdout);
    return 0;
}

std::string full_name(const Directory& directory, const std::string& start) {
    const auto found = directory.entries().lower_bound(start);
    if (found == directory.entries().end() || !found->first.starts_with(start)) {
        throw Error("no checkpoint's name begins with '" + start + "'; see ds4-debug kv ls");
    }
    const auto next = std::next(found);
    if (next != directory.entries().end() && next->first.starts_with(start)) {
        throw Error("several checkpoints' names begin with '" + start + "'; give more of it");
    }
    return found->first;
}

int show(const Options& o) {
    const Directory directory = open_directory(o);
    const std::string name = full_name(directory, o.name);
    const kv::FileHeader& h = directory.entries().at(name).header;
    const kv::Chain chain = kv::verify_chain(directory, name);
    std::cout << "name           " << name << "\ntokens sha1    " << h.tokens_sha1 << "\nparent         "
              << (h.parent.empty() ? "none" : h.parent) << " (" << h.n_parent_tokens
              << " tokens)\nmodel          " << h.fingerprint << " (" << int{h.quant_bits}
              << " bits)\ntokens         " << h.n_tokens << "\ncontext        " << h.n_context
              << "\nreason         " << kv::to_string(h.reason) << "\nkey            " << name_of(h.key_kind)
              << (h.is_salted ? ", salted, " : ", ") << h.key_bytes << " bytes\nhits           " << h.hits
              << "\ncreated        " << h.created << "\nlast used      " << h.last_used << "\ntool map       "
              << h.tool_map_bytes << " bytes\n";
    constexpr const char* kNames[] = {"tokens", "rows", "state", "logits"};
    for (const kv::Section& s : h.sections) {
        std::cout << "section        " << kNames[static_cast<std::size_t>(s.kind) - 1] << " at " << s.offset
                  << ", " << s.bytes << " bytes\n";
    }
    const std::size_t shown = std::min(kShownText, chain.key.size());
    std::cout << "chain          " << chain.names.size() << " files, " << chain.file_bytes
              << " bytes\ntext ends with\n"
              << chain.key.substr(chain.key.size() - shown) << '\n';
    return 0;
}

int verify(const Options& o) {
    const Directory directory = open_directory(o);
    std::size_t n_bad = 0;
    for (const auto& [name, entry] : directory.entries()) {
        try {
            kv::verify_chain(directory, name);
        } catch (const Error& error) {
            ++n_bad;
            std::cout << name << ": " << error.what() << '\n';
        }
    }
    std::cout << directory.entries().size() << " files, " << n_bad << " bad\n";
    return n_bad == 0 ? 0 : 1;
}

int collect_garbage(const Options& o) {
    Directory directory = open_directory(o);
    const std::uint64_t before = directory.total_bytes();
    const std::size_t n = directory.collect_garbage() + directory.shrink_to_budget();
    std::cout << n << " files deleted, " << before - std::min(before, directory.total_bytes()) << " bytes; "
              << directory.entries().size() << " files left, " << directory.total_bytes() << " bytes\n";
    return 0;
}

}  // namespace

void add_kv(CLI::App& app, Run& run) {
    CLI::App* command = app.add_subcommand("kv", "What is in a directory of checkpoints (--kv-disk-dir)");
    command->require_subcommand(1);
    auto o = std::make_shared<Options>();
    const auto add = [&](const char* name, const char* text, int (*action)(const Options&)) {
        CLI::App* sub = command->add_subcommand(name, text);
        sub->add_option("directory", o->directory, "The directory")->required();
        sub->callback([&run, o, action] { run = [o, action] { return action(*o); }; });
        return sub;
    };
    add("ls", "One line per file, under the one it goes on from", list);
    add("show", "All of one file but its numbers", show)
        ->add_option("name", o->name, "The file's name, or enough of its beginning")
        ->required();
    add("verify", "Read every byte; exit status 1 if any is wrong", verify);
    add("gc", "Delete what nothing can use: broken files, leftovers, files without their beginning",
        collect_garbage)
        ->add_option("--max-mb", o->max_mb, "And the least valuable ones beyond so many MiB");
}

}  // namespace ds4::debug
