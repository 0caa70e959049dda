"""Writes what an engine should compute for a checkpoint: python3 make_parity.py CHECKPOINT OUT.safetensors

tokens (T) of a rendered conversation; logits and logits_rounded (T, V) in float32 from the stored weights, without and
with the roundings of model.md 9; mtp_logits (T-1, V) without them.
"""

import sys

import torch

import checkpoint
from generate import load, render

TURNS = ["Hello!", "Hello! How can I help you?",
         "What is the capital of France?", "The capital of France is Paris.",
         "Tell me a short story about a fox.",
         "Once upon a time there was a curious fox who lived in the forest. One morning it found a golden key under an old tree. "
         "\"Which door does it open?\" it asked. It searched the whole day, and at last a bird showed it a small door in a wall. Behind it was "
         "a garden full of flowers. The fox shared the garden with everybody, and that made it happier than any treasure.",
         "Sort these words alphabetically: window, apple, river, mountain", "apple, mountain, river, window.",
         "Write hello world in C", "```c\n#include <stdio.h>\n\nint main(void) {\n    printf(\"Hello, world!\\n\");\n    return 0;\n}\n```",
         "What is 17 + 25?"]


@torch.no_grad()
def main():
    model, tokenizer = load(sys.argv[1])
    ids = tokenizer.encode(render(TURNS, think=True, system="You are a helpful assistant."))
    tokens = torch.tensor([ids])
    rounded = model(tokens)[0][0]
    model.rounding = False
    logits, _, drafted = model(tokens, mtp=True)
    checkpoint.save_file(sys.argv[2], {"tokens": torch.tensor(ids, dtype=torch.int32), "logits": logits[0].contiguous(),
                                       "logits_rounded": rounded.contiguous(), "mtp_logits": drafted[0].contiguous()})
    print("%d tokens; rounding changes the argmax at %d positions" % (len(ids), (logits[0].argmax(-1) != rounded.argmax(-1)).sum()))


if __name__ == "__main__":
    main()
