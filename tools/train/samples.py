"""Asks a checkpoint the questions of held_out.txt, greedily, and measures it on unseen conversations.

python3 samples.py CHECKPOINT --data FOLDER_OF_A_SHARD_NOT_TRAINED_ON --out samples.md [--device cuda]
"""

import argparse
import glob
import os
import sys

import numpy
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "reference"))

from generate import complete, load, render                                        # noqa: E402
from train import losses_of, shifted, weighted_loss                                # noqa: E402


@torch.no_grad()
def measure(model, folder, device, rows):
    """Losses, next-token accuracy and MTP acceptance on the answers of unseen rows, in float32."""
    arrays = numpy.load(sorted(glob.glob(os.path.join(folder, "shard-*.npz")))[0])
    tokens, weight, start = [torch.from_numpy(arrays[n][:rows].astype("int64")).to(device) for n in ("tokens", "weight", "start")]
    answers = (weight == 100).float()
    totals = numpy.zeros(6)
    for i in range(0, len(tokens), 16):
        t, w, s = tokens[i:i + 16], answers[i:i + 16], start[i:i + 16]
        trunk, mtp, _, _ = losses_of(model, weighted_loss, t, w, s)
        S = model.trunk(t, s)[0][-1]
        choice = model.logits(model.norm(model.hc_head(S))).argmax(-1)             # for position p+1
        draft = model.logits(model.draft(S, t, s)[0]).argmax(-1)                   # for position p+2
        targets, counted = shifted(t, w, s, 1)
        _, counted2 = shifted(t, w, s, 2)
        counted, counted2 = counted > 0, counted2[:, :-1] > 0
        n = counted.sum().item()
        totals += [trunk.item() * n, mtp.item() * n, n, ((choice == targets) & counted).sum().item(),
                   ((draft[:, :-1] == choice[:, 1:]) & counted2).sum().item(), counted2.sum().item()]
    return {"loss": totals[0] / totals[2], "mtp_loss": totals[1] / totals[2], "answer_tokens": int(totals[2]),
            "accuracy": totals[3] / totals[2], "acceptance": totals[4] / totals[5]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, default=256)
    args = parser.parse_args()
    model, tokenizer = load(args.checkpoint)
    model.to(args.device)
    found = measure(model, args.data, args.device, args.rows)
    with open(os.path.join(HERE, "held_out.txt"), encoding="utf-8") as file:
        entries = [line.strip() for line in file if line.strip() and not line.startswith("# ")]
    questions = [entry.split(" || ") for entry in entries if not entry.startswith("## ")]
    lines = ["# Samples", "", "Greedy answers of the checkpoint through the reference model in float32 with the roundings of model.md 9, all of",
             "them, as they came.", "",
             "On %d answer tokens of conversations that were not trained on: loss %.4f, next token right %.2f %%, MTP loss %.4f," % (
                 found["answer_tokens"], found["loss"], 100 * found["accuracy"], found["mtp_loss"]),
             "MTP draft equal to the trunk's own choice %.2f %%." % (100 * found["acceptance"]), ""]
    plain = iter(complete(model, tokenizer, [render(q) for q in questions]))
    thought = iter(complete(model, tokenizer, [render(q, think=True) for q in questions]))
    for entry in entries:
        if entry.startswith("## "):
            lines += [entry, ""]
            continue
        lines += ["**" + entry.replace(" || ", " / ") + "**", ""]
        for label, text in (("", next(plain)), ("thinking: ", next(thought))):
            stopped = text.endswith("<｜end▁of▁sentence｜>")
            text = text.replace("<｜end▁of▁sentence｜>", "") + ("" if stopped else " [did not stop]")
            lines += ["> " + label + line if i == 0 else "> " + line for i, line in enumerate(text.split("\n"))] + [""]
    text = "\n".join(lines)
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
