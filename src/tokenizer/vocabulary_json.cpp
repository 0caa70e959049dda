#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "ds4/error.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/tokenizer.h"

namespace ds4::tokenizer {
namespace {

using nlohmann::json;
using Kind = Vocabulary::Kind;

// No released vocabulary has a million tokens; an id beyond would only make the table huge.
constexpr std::int64_t max_tokens = std::int64_t{1} << 20;

// Reads one tokenizer.json; every complaint names the file and the field.
class Reader {
  public:
    explicit Reader(const std::filesystem::path& path) : path_(path) {}

    Vocabulary read() const {
        const json root = parse();
        if (!root.is_object()) fail("is not a JSON object");
        check_pipeline(root);
        const json& model = member(root, "model", "model");
        check_model(model);

        Vocabulary vocabulary;
        read_vocab(member(model, "vocab", "model.vocab"), vocabulary);
        if (root.contains("added_tokens")) read_added(root["added_tokens"], vocabulary);
        check_no_holes(vocabulary);
        vocabulary.merges = read_merges(member(model, "merges", "model.merges"));
        set_special_ids(vocabulary);
        return vocabulary;
    }

  private:
    [[noreturn]] void fail(const std::string& what) const {
        throw TokenizerError(path_.string() + ": " + what);
    }

    json parse() const {
        std::ifstream in(path_, std::ios::binary);
        if (!in) throw IoError(path_.string() + ": cannot be read");
        try {
            return json::parse(in);
        } catch (const json::exception& e) {
            fail(std::string("is not JSON: ") + e.what());
        } catch (const std::ios_base::failure&) {
            throw IoError(path_.string() + ": cannot be read");
        }
    }

    const json& member(const json& object, const char* key, const std::string& name) const {
        if (!object.is_object() || !object.contains(key)) fail(name + " is missing");
        return object[key];
    }

    std::int64_t id(const json& value, const std::string& name) const {
        if (!value.is_number_integer()) fail("the id of " + name + " is not an integer");
        const auto id = value.get<std::int64_t>();
        if (id < 0 || id >= max_tokens) fail("the id of " + name + " is " + value.dump() + ", out of range");
        return id;
    }

    // Text around BPE that this tokenizer does not do must not be asked for.
    void check_pipeline(const json& root) const {
        if (root.contains("normalizer") && !root["normalizer"].is_null()) {
            const json& normalizer = root["normalizer"];
            const bool is_empty_sequence = normalizer.is_object() && normalizer.contains("normalizers") &&
                                           normalizer["normalizers"].is_array() &&
                                           normalizer["normalizers"].empty();
            if (!is_empty_sequence) fail("normalizer is not empty: this is not a DeepSeek V4 tokenizer");
        }
        const json& pre = member(root, "pre_tokenizer", "pre_tokenizer");
        const json& steps = member(pre, "pretokenizers", "pre_tokenizer.pretokenizers");
        if (!steps.is_array() || steps.size() != split_patterns.size() + 1 || !is_byte_level(steps.back())) {
            fail(
                "pre_tokenizer is not three Splits and a plain ByteLevel: this is not a DeepSeek V4 "
                "tokenizer");
        }
        for (std::size_t i = 0; i < split_patterns.size(); ++i) {
            if (!is_split(steps[i], split_patterns[i])) {
                fail("pre_tokenizer.pretokenizers[" + std::to_string(i) +
                     "] is not the Split of DeepSeek V4");
            }
        }
    }

    static bool is_byte_level(const json& step) {
        return step.is_object() && step.value("type", json()) == "ByteLevel" &&
               step.value("add_prefix_space", json()) == false && step.value("use_regex", json()) == false;
    }

    static bool is_split(const json& step, std::string_view pattern) {
        return step.is_object() && step.value("type", json()) == "Split" &&
               step.value("behavior", json()) == "Isolated" && step.value("invert", json(false)) == false &&
               step.value("pattern", json()) == json{{"Regex", pattern}};
    }

    void check_model(const json& model) const {
        if (member(model, "type", "model.type") != "BPE") fail("model.type is not BPE");
        for (const char* option : {"byte_fallback", "ignore_merges"}) {
            if (model.contains(option) && model[option] == true) {
                fail(std::string("model.") + option + " is set: this is not a DeepSeek V4 tokenizer");
            }
        }
    }

    void place(Vocabulary& vocabulary, std::int64_t token_id, const std::string& text, Kind kind) const {
        const auto i = static_cast<std::size_t>(token_id);
        if (i >= vocabulary.tokens.size()) {
            vocabulary.tokens.resize(i + 1);
            vocabulary.kinds.resize(i + 1, Kind::unused);
        }
        if (vocabulary.kinds[i] != Kind::unused && vocabulary.tokens[i] != text) {
            fail("'" + vocabulary.tokens[i] + "' and '" + text + "' have the same id " + std::to_string(i));
        }
        vocabulary.tokens[i] = text;
        vocabulary.kinds[i] = kind;
    }

    void read_vocab(const json& vocab, Vocabulary& vocabulary) const {
        if (!vocab.is_object() || vocab.empty()) fail("model.vocab is not an object of token ids");
        for (const auto& [text, value] : vocab.items()) {
            place(vocabulary, id(value, "token '" + text + "'"), text, Kind::normal);
        }
    }

    void read_added(const json& added, Vocabulary& vocabulary) const {
        if (!added.is_array()) fail("added_tokens is not a list");
        for (std::size_t i = 0; i < added.size(); ++i) {
            const std::string name = "added_tokens[" + std::to_string(i) + "]";
            const json& token = added[i];
            const json& content = member(token, "content", name + ".content");
            if (!content.is_string()) fail(name + ".content is not a string");
            for (const char* option : {"single_word", "lstrip", "rstrip"}) {
                if (token.contains(option) && token[option] == true) {
                    fail(name + "." + option + " is set, which is not supported");
                }
            }
            const bool is_special = token.contains("special") && token["special"] == true;
            place(vocabulary, id(member(token, "id", name + ".id"), name), content.get<std::string>(),
                  is_special ? Kind::control : Kind::user_defined);
        }
    }

    void check_no_holes(const Vocabulary& vocabulary) const {
        const auto hole = std::find(vocabulary.kinds.begin(), vocabulary.kinds.end(), Kind::unused);
        if (hole != vocabulary.kinds.end()) {
            fail("no token has the id " + std::to_string(hole - vocabulary.kinds.begin()));
        }
    }

    std::vector<std::string> read_merges(const json& merges) const {
        if (!merges.is_array()) fail("model.merges is not a list");
        std::vector<std::string> result;
        result.reserve(merges.size());
        for (const json& merge : merges) {
            if (merge.is_string()) {
                result.push_back(merge.get<std::string>());
            } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                       merge[1].is_string()) {
                result.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
            } else {
                fail("model.merges[" + std::to_string(result.size()) +
                     "] is neither a string nor a pair of strings");
            }
        }
        return result;
    }

    // tokenizer.json does not say which tokens begin and end a text; the released models name them like this
    // and pad with EOS.
    static void set_special_ids(Vocabulary& vocabulary) {
        const auto find = [&](std::string_view text) {
            for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
                if (vocabulary.kinds[i] != Kind::normal && vocabulary.tokens[i] == text)
                    return static_cast<TokenId>(i);
            }
            return TokenId{-1};
        };
        vocabulary.bos = find("<｜begin▁of▁sentence｜>");
        vocabulary.eos = find("<｜end▁of▁sentence｜>");
        vocabulary.pad = vocabulary.eos;
    }

    const std::filesystem::path& path_;
};

}  // namespace

Vocabulary Vocabulary::from_json(const std::filesystem::path& path) {
    return Reader(path).read();
}

}  // namespace ds4::tokenizer
