"""Makes training rows: documents packed into rows of fixed length, ready for the model.

python3 make_data.py --kjv kjv.txt --tokenizer tokenizer.json --out FOLDER --shards 64 [--workers 8] [--seed 1]

A shard is a .npz with arrays of shape (rows, length): `tokens`; `weight`, how much the prediction of that token
counts, in hundredths; `start`, the position where the token's document begins.
"""

import argparse
import multiprocessing
import os
import random
import sys

import numpy

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))

import bpe                                                              # noqa: E402
from conversation import BOS, EOS, PAD, conversation                    # noqa: E402

ANSWER_WEIGHT, PROMPT_WEIGHT, TEXT_WEIGHT = 100, 15, 30
TEXT_SHARE = 0.012                      # documents of old text; they are longer, about 3 % of the tokens


def document(rng, tokenizer, verses):
    """ids and weights of one document"""
    if rng.random() < TEXT_SHARE:
        first = rng.randrange(len(verses) - 8)
        text = BOS + " ".join(verses[first:first + rng.randrange(2, 8)]) + EOS
        ids = tokenizer.encode(text)
        return ids, [TEXT_WEIGHT] * len(ids)
    ids, weights = [], []
    for text, is_answer in conversation(rng):
        part = tokenizer.encode(text)
        ids += part
        weights += [ANSWER_WEIGHT if is_answer else PROMPT_WEIGHT] * len(part)
    return ids, weights


class Row:
    def __init__(self, length):
        self.length, self.end, self.documents = length, 0, []

    def place(self, size):
        """Where a document of that size would begin, or None.

        Windows of the compressors lie on multiples of 4 and 128 of the row. A document sees the windows it would see
        alone if it begins on a multiple of 4 and, when it is long enough to fill a window of 128, on one of 128.
        """
        unit = 128 if size >= 128 else 4
        begin = -(-self.end // unit) * unit
        return begin if begin + size <= self.length else None

    def add(self, begin, ids, weights):
        self.documents.append((begin, ids, weights))
        self.end = begin + len(ids)


def pack(documents, length, rows):
    """First fit over a few open rows; long documents find an aligned place, short ones fill the gaps behind them."""
    done, opened = [], [Row(length) for _ in range(32)]
    while len(done) < rows:
        ids, weights = next(documents)
        if len(ids) > length:
            continue
        fits = [(row.place(len(ids)) - row.end, i) for i, row in enumerate(opened) if row.place(len(ids)) is not None]
        if fits:
            row = opened[min(fits)[1]]
        else:
            fullest = max(range(len(opened)), key=lambda i: opened[i].end)
            done.append(opened[fullest])
            row = opened[fullest] = Row(length)
        row.add(row.place(len(ids)), ids, weights)
    return done


def write_shard(job):
    args, index = job
    rng = random.Random("%d/%d" % (args.seed, index))
    tokenizer = bpe.Tokenizer(args.tokenizer)
    with open(args.kjv, encoding="utf-8") as file:
        verses = [line.rstrip("\n").split(" ", 1)[1] for line in file]

    def documents():
        while True:
            yield document(rng, tokenizer, verses)

    rows = pack(documents(), args.length, args.rows)
    tokens = numpy.full((args.rows, args.length), tokenizer.added[PAD], numpy.uint16)
    weight = numpy.zeros((args.rows, args.length), numpy.uint8)
    start = numpy.zeros((args.rows, args.length), numpy.uint16)
    for r, row in enumerate(rows):
        for begin, ids, weights in row.documents:
            tokens[r, begin:begin + len(ids)] = ids
            weight[r, begin:begin + len(ids)] = weights
            weight[r, begin] = 0                        # BOS is given, never predicted
            start[r, begin:] = begin
    path = os.path.join(args.out, "shard-%05d" % index)
    numpy.savez(path + ".tmp.npz", tokens=tokens, weight=weight, start=start)
    os.rename(path + ".tmp.npz", path + ".npz")         # readers see whole shards only
    return float((weight > 0).mean())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kjv", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    with multiprocessing.Pool(args.workers) as pool:
        for i, used in enumerate(pool.imap(write_shard, [(args, i) for i in range(args.shards)])):
            if i % 32 == 0:
                print("shard %d: %.1f %% of the positions count" % (i, 100 * used), flush=True)


if __name__ == "__main__":
    main()
