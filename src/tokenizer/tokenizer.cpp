#include "tokenizer/tokenizer.h"

#include <array>
#include <limits>
#include <unordered_map>

#include "ds4/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/pretokenizer.h"

namespace ds4::tokenizer {
namespace {

using Kind = Vocabulary::Kind;
using IdByText = std::unordered_map<std::string_view, TokenId>;

bool is_added_kind(Kind kind) {
    return kind == Kind::control || kind == Kind::user_defined;
}

void check_shape(const Vocabulary& vocabulary) {
    if (vocabulary.tokens.empty()) throw TokenizerError("the vocabulary is empty");
    if (vocabulary.tokens.size() > std::numeric_limits<TokenId>::max()) {
        throw TokenizerError("the vocabulary has more tokens than ids");
    }
    if (vocabulary.kinds.size() != vocabulary.tokens.size()) {
        throw TokenizerError("the vocabulary has " + std::to_string(vocabulary.tokens.size()) +
                             " tokens but " + std::to_string(vocabulary.kinds.size()) + " token types");
    }
    const auto size = static_cast<TokenId>(vocabulary.tokens.size());
    const auto check_id = [size](const char* name, TokenId id) {
        if (id < -1 || id >= size) {
            throw TokenizerError(std::string(name) + " token " + std::to_string(id) +
                                 " is outside the vocabulary of " + std::to_string(size));
        }
    };
    check_id("bos", vocabulary.bos);
    check_id("eos", vocabulary.eos);
    check_id("pad", vocabulary.pad);
}

// Keys are views into `vocabulary`.
IdByText index_normal_tokens(const Vocabulary& vocabulary) {
    IdByText ids;
    ids.reserve(vocabulary.tokens.size());
    for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
        if (vocabulary.kinds[i] != Kind::normal) continue;
        const auto [entry, is_new] = ids.emplace(vocabulary.tokens[i], static_cast<TokenId>(i));
        if (!is_new) {
            throw TokenizerError("tokens " + std::to_string(entry->second) + " and " + std::to_string(i) +
                                 " are the same string '" + vocabulary.tokens[i] + "'");
        }
    }
    return ids;
}

std::array<TokenId, 256> find_byte_tokens(const IdByText& ids) {
    std::array<TokenId, 256> tokens{};
    for (std::size_t byte = 0; byte < tokens.size(); ++byte) {
        const auto found = ids.find(encode_byte(static_cast<std::uint8_t>(byte)));
        if (found == ids.end()) {
            throw TokenizerError("the vocabulary has no token for byte " + std::to_string(byte));
        }
        tokens[byte] = found->second;
    }
    return tokens;
}

MergeTable build_merges(const Vocabulary& vocabulary, const IdByText& ids) {
    MergeTable table;
    table.reserve(vocabulary.merges.size());
    for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
        const std::string& merge = vocabulary.merges[rank];
        const auto fail = [&](const std::string& what) {
            std::string message = "merge " + std::to_string(rank);
            throw TokenizerError(message.append(" '").append(merge).append("' ").append(what));
        };
        // The alphabet has no blank, so the one blank is the separator.
        const std::size_t blank = merge.find(' ');
        if (blank == std::string::npos) fail("is not two tokens separated by a blank");
        const auto id_of = [&](std::string_view token) {
            const auto found = ids.find(token);
            if (found == ids.end())
                fail("needs the token '" + std::string(token) + "', which does not exist");
            return found->second;
        };
        const TokenId left = id_of(std::string_view(merge).substr(0, blank));
        const TokenId right = id_of(std::string_view(merge).substr(blank + 1));
        const TokenId result = id_of(std::string(merge).erase(blank, 1));
        const bool is_new = table.add(left, right, {static_cast<std::int32_t>(rank), result});
        if (!is_new) fail("is listed twice");
    }
    return table;
}

AddedTokens collect_added(const Vocabulary& vocabulary) {
    std::vector<std::pair<std::string, std::int32_t>> added;
    for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
        if (is_added_kind(vocabulary.kinds[i]))
            added.emplace_back(vocabulary.tokens[i], static_cast<TokenId>(i));
    }
    return AddedTokens(std::move(added));
}

// The bytes of all tokens, one after the other.
struct TokenBytes {
    std::string bytes;
    std::vector<std::size_t> begins;  // (vocab + 1)
};

TokenBytes decode_tokens(const Vocabulary& vocabulary) {
    TokenBytes result;
    result.begins.push_back(0);
    for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
        const std::string& token = vocabulary.tokens[i];
        if (vocabulary.kinds[i] == Kind::normal) {
            const auto bytes = decode_bytes(token);
            if (!bytes || bytes->empty()) {
                throw TokenizerError("token " + std::to_string(i) + " '" + token +
                                     "' is not written in the byte alphabet of byte-level BPE");
            }
            result.bytes += *bytes;
        } else {
            result.bytes += token;
        }
        result.begins.push_back(result.bytes.size());
    }
    return result;
}

// Pieces seen before in one text, with the range of ids that they gave. English text repeats nine pieces in
// ten.
class PieceMemo {
  public:
    struct Range {
        std::size_t begin, end;  // into the ids of the text
    };

    const Range* find(std::string_view piece) const {
        const auto found = ranges_.find(piece);
        return found == ranges_.end() ? nullptr : &found->second;
    }
    void add(std::string_view piece, Range range) { ranges_.emplace(piece, range); }

  private:
    std::unordered_map<std::string_view, Range> ranges_;
};

}  // namespace

struct Tokenizer::Impl {
    Vocabulary vocabulary;
    TokenBytes token_bytes;
    std::array<TokenId, 256> byte_tokens{};
    MergeTable merges;
    AddedTokens added;
    Pretokenizer pretokenizer;
};

Tokenizer::Tokenizer(Vocabulary vocabulary) : impl_(std::make_unique<Impl>()) {
    check_shape(vocabulary);
    impl_->vocabulary = std::move(vocabulary);
    impl_->token_bytes = decode_tokens(impl_->vocabulary);
    const IdByText ids = index_normal_tokens(impl_->vocabulary);
    impl_->byte_tokens = find_byte_tokens(ids);
    impl_->merges = build_merges(impl_->vocabulary, ids);
    impl_->added = collect_added(impl_->vocabulary);
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::int32_t Tokenizer::size() const {
    return static_cast<std::int32_t>(impl_->vocabulary.tokens.size());
}

const Vocabulary& Tokenizer::vocabulary() const {
    return impl_->vocabulary;
}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
    std::vector<TokenId> ids;
    encode_to(text, ids);
    return ids;
}

void Tokenizer::encode_to(std::string_view text, std::vector<TokenId>& ids) const {
    if (text.size() > std::numeric_limits<std::int32_t>::max()) {
        throw TokenizerError("a text of " + std::to_string(text.size()) + " bytes is too long to tokenize");
    }
    PieceMerger merger(impl_->merges);
    PieceMemo memo;
    std::vector<TokenId> piece_ids;
    for (const std::string_view piece : impl_->pretokenizer.split(text)) {
        if (piece.size() == 1) {
            ids.push_back(impl_->byte_tokens[static_cast<std::uint8_t>(piece[0])]);
            continue;
        }
        if (const PieceMemo::Range* range = memo.find(piece)) {
            for (std::size_t i = range->begin; i < range->end; ++i) ids.push_back(TokenId{ids[i]});
            continue;
        }
        piece_ids.clear();
        for (const char byte : piece)
            piece_ids.push_back(impl_->byte_tokens[static_cast<std::uint8_t>(byte)]);
        merger.merge(piece_ids);
        memo.add(piece, {ids.size(), ids.size() + piece_ids.size()});
        ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
    }
}

std::vector<TokenId> Tokenizer::encode_with_added(std::string_view text) const {
    std::vector<TokenId> ids;
    std::size_t at = 0;
    while (const auto match = impl_->added.search(text, at)) {
        encode_to(text.substr(at, match->begin - at), ids);
        ids.push_back(match->id);
        at = match->begin + match->length;
    }
    encode_to(text.substr(at), ids);
    return ids;
}

std::optional<TokenId> Tokenizer::find_added(std::string_view text) const {
    return impl_->added.find(text);
}

std::optional<std::size_t> Tokenizer::find_added_end(std::string_view text) const {
    const auto match = impl_->added.search(text, 0);
    if (!match) return std::nullopt;
    return match->begin + match->length;
}
bool Tokenizer::is_added(TokenId id) const {
    return id >= 0 && id < size() && is_added_kind(impl_->vocabulary.kinds[static_cast<std::size_t>(id)]);
}

std::string_view Tokenizer::bytes(TokenId id) const {
    if (id < 0 || id >= size()) {
        throw TokenizerError("token " + std::to_string(id) + " is outside the vocabulary of " +
                             std::to_string(size()));
    }
    const TokenBytes& all = impl_->token_bytes;
    const auto i = static_cast<std::size_t>(id);
    return std::string_view(all.bytes).substr(all.begins[i], all.begins[i + 1] - all.begins[i]);
}

std::string Tokenizer::decode(std::span<const TokenId> ids) const {
    std::string text;
    for (const TokenId id : ids) text += bytes(id);
    return text;
}

}  // namespace ds4::tokenizer
