"""Loss on answers by position in long conversations: python3 measure_length.py CHECKPOINT [--conversations 8]

Strings turns together until a conversation has more than 1024 tokens, which training never saw, with top-k as
configured and with all compressed rows attended.
"""

import argparse
import os
import random
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))

from conversation import single                                                    # noqa: E402
from generate import ASSISTANT, BOS, END_THINK, EOS, USER, load                     # noqa: E402

SPAN = 128


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--conversations", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    args = parser.parse_args()
    model, tokenizer = load(args.checkpoint)
    rng = random.Random(12345)
    rows, answers = [], []
    for _ in range(args.conversations):
        ids, is_answer = tokenizer.encode(BOS), [False]
        while len(ids) < args.length:
            turn = single(rng)
            for text, counts in ((USER + turn.user + ASSISTANT + END_THINK, False), (turn.answer + EOS, True)):
                part = tokenizer.encode(text)
                ids += part
                is_answer += [counts] * len(part)
        rows.append(ids[:args.length])
        answers.append(is_answer[:args.length])
    tokens, counted = torch.tensor(rows), torch.tensor(answers)[:, 1:]
    for top_k in (model.c.index_topk, 1 << 30):
        model.top_k.fill_(top_k)
        losses = torch.cat([F.cross_entropy(model(t[None])[0][0, :-1], t[1:], reduction="none")[None] for t in tokens])
        means = [(losses[:, i:i + SPAN] * counted[:, i:i + SPAN]).sum() / counted[:, i:i + SPAN].sum() for i in range(0, args.length - 1, SPAN)]
        print("top-k %-11s" % (top_k if top_k < 1 << 30 else "everything"), " ".join("%d: %.3f" % (i * SPAN, m) for i, m in enumerate(means)))


if __name__ == "__main__":
    main()
