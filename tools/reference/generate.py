"""Chats with a checkpoint through the reference model (slow: the whole text is computed anew for every token).

python3 generate.py CHECKPOINT "question" ["answer" "next question" ...] [--think] [--system TEXT] [--temperature 0.8]
"""

import argparse
import os

import torch

import checkpoint
from bpe import Tokenizer
from config import Config
from model import Model, module_names

BOS, USER, ASSISTANT = "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"
THINK, END_THINK, EOS = "<think>", "</think>", "<｜end▁of▁sentence｜>"


def load(folder, rounding=True):
    """-> model in float32, tokenizer"""
    model = Model(Config.load(os.path.join(folder, "config.json"))).eval()
    model.load_state_dict(module_names(checkpoint.stack_experts(checkpoint.load(folder))))
    model.rounding = rounding
    return model, Tokenizer(os.path.join(folder, "tokenizer.json"))


def render(turns, think=False, system=""):
    """A prompt as in prompt.md 2; turns are question, answer, question, ..., and end with a question."""
    text = BOS + system
    for i, turn in enumerate(turns):
        if i % 2 == 0:
            text += USER + turn + ASSISTANT + (THINK if think and i == len(turns) - 1 else END_THINK)
        else:
            text += turn + EOS
    return text


@torch.no_grad()
def complete(model, tokenizer, prompts, limit=160, temperature=0.0, generator=None):
    """Completions of several prompts, computed together; each stops at EOS. What follows a position never changes it,
    so shorter prompts are simply padded at the end."""
    device = model.head.weight.device
    eos = tokenizer.added[EOS]
    rows = [tokenizer.encode(p) for p in prompts]
    begin = [len(r) for r in rows]
    going = list(range(len(rows)))
    for _ in range(limit):
        longest = max(len(rows[i]) for i in going)
        tokens = torch.tensor([rows[i] + [0] * (longest - len(rows[i])) for i in going], device=device)
        last = torch.tensor([len(rows[i]) - 1 for i in going], device=device)
        logits = model.last_logits(tokens, last)
        if temperature > 0:
            chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
        else:
            chosen = logits.argmax(-1)
        for i, token in zip(going, chosen.tolist()):
            rows[i].append(token)
        going = [i for i in going if rows[i][-1] != eos]
        if not going:
            break
    return [tokenizer.decode(r[b:]) for r, b in zip(rows, begin)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("turns", nargs="+")
    parser.add_argument("--think", action="store_true")
    parser.add_argument("--system", default="")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-rounding", action="store_true")
    args = parser.parse_args()
    model, tokenizer = load(args.checkpoint, not args.no_rounding)
    generator = torch.Generator().manual_seed(args.seed)
    prompt = render(args.turns, args.think, args.system)
    print(complete(model, tokenizer, [prompt], temperature=args.temperature, generator=generator)[0])


if __name__ == "__main__":
    main()
