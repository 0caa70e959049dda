"""Byte-level BPE: the split into words, the byte alphabet, encoding and decoding (model.md 15.2, 15.3)."""

import json

import regex

SPLITS = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
_COMPILED = [regex.compile(pattern) for pattern in SPLITS]


def split_words(text):
    """Three passes; each cuts every piece into matches and the gaps between them."""
    pieces = [text]
    for pattern in _COMPILED:
        cut = []
        for piece in pieces:
            at = 0
            for match in pattern.finditer(piece):
                if match.start() > at:
                    cut.append(piece[at:match.start()])
                if match.end() > match.start():
                    cut.append(match.group())
                at = match.end()
            if at < len(piece):
                cut.append(piece[at:])
        pieces = cut
    return pieces


def byte_alphabet():
    """One printable character for each byte: the byte itself where printable, else U+0100 and up in order."""
    printable = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


ALPHABET = byte_alphabet()
BYTE_OF = {c: b for b, c in enumerate(ALPHABET)}


def to_alphabet(word):
    return "".join(ALPHABET[b] for b in word.encode("utf-8"))


class Tokenizer:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        self.ids = dict(data["model"]["vocab"])
        merges = [m.split(" ") if isinstance(m, str) else m for m in data["model"]["merges"]]
        self.rank = {tuple(pair): i for i, pair in enumerate(merges)}
        self.added = {t["content"]: t["id"] for t in data["added_tokens"]}
        self.strings = {i: s for s, i in self.ids.items()}
        self.strings.update({i: s for s, i in self.added.items()})
        self._cut = regex.compile("(" + "|".join(regex.escape(t) for t in sorted(self.added, key=len, reverse=True)) + ")")
        self._words = {}

    def __len__(self):
        return max(self.strings) + 1

    def word(self, word):
        known = self._words.get(word)
        if known is None:
            symbols = list(to_alphabet(word))
            while len(symbols) > 1:
                best = min(zip(symbols, symbols[1:]), key=lambda pair: self.rank.get(pair, 1 << 30))
                if best not in self.rank:
                    break
                symbols = merge(symbols, best)
            known = [self.ids[s] for s in symbols]
            if len(self._words) < 500000:
                self._words[word] = known
        return known

    def encode(self, text):
        """Ids of a text in which the added tokens are recognised."""
        ids = []
        for part in self._cut.split(text):
            if part in self.added:
                ids.append(self.added[part])
            elif part:
                for word in split_words(part):
                    ids.extend(self.word(word))
        return ids

    def decode(self, ids):
        out = bytearray()
        for i in ids:
            s = self.strings[i]
            out += s.encode("utf-8") if s in self.added else bytes(BYTE_OF[c] for c in s)
        return out.decode("utf-8", errors="replace")


def merge(symbols, pair):
    """Join every occurrence of the pair, leftmost first."""
    out, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and symbols[i] == pair[0] and symbols[i + 1] == pair[1]:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out
