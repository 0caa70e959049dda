"""Trains the tokenizer on generated conversations and the King James text, and writes tokenizer.json.

python3 make_tokenizer.py --kjv kjv.txt --out tokenizer.json [--vocab 8192] [--conversations 40000]
"""

import argparse
import collections
import heapq
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))

from bpe import SPLITS, merge, split_words, to_alphabet, ALPHABET          # noqa: E402
from conversation import BOS, EOS, PAD, conversation                    # noqa: E402

FIRST = [BOS, EOS, PAD]                     # ids 0, 1, 2
LAST = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜", "<｜latest_reminder｜>", "<｜action｜>", "<｜query｜>",
        "<｜authority｜>", "<｜domain｜>", "<｜title｜>", "<｜extracted_url｜>", "<｜read_url｜>"]


def count_words(kjv, conversations, seed):
    counts, rng = collections.Counter(), random.Random(seed)
    marks = FIRST + LAST
    for _ in range(conversations):
        text = "".join(part for part, _ in conversation(rng))
        for mark in marks:
            text = text.replace(mark, "\0")
        for part in text.split("\0"):
            counts.update(split_words(part))
    with open(kjv, encoding="utf-8") as file:
        # Each verse begins with its reference; the words after it are counted.
        for line in file:
            counts.update(split_words(line.split(" ", 1)[-1]))
    return counts


def learn_merges(counts, number):
    """The most frequent adjacent pair is merged, again and again; ties go to the smaller strings."""
    words = [(list(to_alphabet(word)), n) for word, n in counts.items()]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, (symbols, n) in enumerate(words):
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] += n
            where[pair].add(i)
    heap = [(-n, pair) for pair, n in pairs.items()]
    heapq.heapify(heap)
    merges = []
    while len(merges) < number and heap:
        n, pair = heapq.heappop(heap)
        if pairs[pair] != -n:               # an old entry; the current count has its own
            if pairs[pair] > 0:
                heapq.heappush(heap, (-pairs[pair], pair))
            continue
        merges.append(pair)
        changed = set()
        for i in where.pop(pair):
            symbols, weight = words[i]
            for old in zip(symbols, symbols[1:]):
                pairs[old] -= weight
                changed.add(old)
            symbols = merge(symbols, pair)
            words[i] = (symbols, weight)
            for new in zip(symbols, symbols[1:]):
                pairs[new] += weight
                where[new].add(i)
                changed.add(new)
        for other in changed:
            if pairs[other] > 0:
                heapq.heappush(heap, (-pairs[other], other))
    return merges


def added(i, content, special):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": not special, "special": special}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kjv", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--conversations", type=int, default=40000)
    args = parser.parse_args()

    base = args.vocab - len(LAST)
    counts = count_words(args.kjv, args.conversations, seed=1)
    merges = learn_merges(counts, base - len(FIRST) - 256)
    vocab = {s: i for i, s in enumerate(FIRST + ALPHABET + [a + b for a, b in merges])}
    assert len(vocab) == base, "two merges made the same string or there were too few pairs"

    isolated = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False} for pattern in SPLITS]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    data = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(i, s, True) for i, s in enumerate(FIRST)] + [added(base + i, s, False) for i, s in enumerate(LAST)],
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": isolated + [byte_level]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": ["%s %s" % pair for pair in merges]},
    }
    with open(args.out, "w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False, indent=1)
    print("%d distinct words, %d merges, %d tokens" % (len(counts), len(merges), args.vocab))


if __name__ == "__main__":
    main()
