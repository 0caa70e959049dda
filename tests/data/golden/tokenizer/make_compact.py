#!/usr/bin/env python3
"""Packs DeepSeek's tokenizer.json (7.8 MB) into what the tests need (0.8 MB).

usage: make_compact.py tokenizer.json

In the released vocabulary ids 3..258 are the 256 bytes in the order of their code points in the byte alphabet,
and id 259 + r is what merge r makes. So the merges alone, as pairs of ids, are the whole vocabulary:

merges.u24   per merge: left id, right id, 3 bytes each, little-endian
added.tsv    id, 1 if special, content
"""
import json
import sys
from pathlib import Path

here = Path(__file__).parent
data = json.load(open(sys.argv[1], encoding="utf-8"))
vocab = data["model"]["vocab"]
packed = bytearray()
for rank, merge in enumerate(data["model"]["merges"]):
    left, right = merge.split(" ")
    assert vocab[left + right] == 259 + rank
    packed += vocab[left].to_bytes(3, "little") + vocab[right].to_bytes(3, "little")
(here / "merges.u24").write_bytes(packed)
with open(here / "added.tsv", "w", encoding="utf-8", newline="\n") as out:
    for token in data["added_tokens"]:
        out.write(f"{token['id']}\t{int(token['special'])}\t{token['content']}\n")
