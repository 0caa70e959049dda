"""Trains the bundled model: python3 train.py --data FOLDER --out FOLDER --minutes 9

Reads shards as make_data.py writes them (also while it is still writing), stops by the clock, and leaves a
checkpoint in the released layout, loss.csv and the figures printed at the end. --resume STATE goes on from a state
that --state wrote.
"""

import argparse
import csv
import glob
import lzma
import os
import queue
import random
import shutil
import sys
import threading
import time

import numpy
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "reference"))

import checkpoint                                                                  # noqa: E402
from config import Config                                                          # noqa: E402
from model import Model, module_names, released_names                                            # noqa: E402
from ops import Ops                                                                # noqa: E402
import optimizer                                                                   # noqa: E402

MTP_SHARE, INDEX_SHARE = 0.3, 0.1
BIAS_STEP = 0.001                     # how far a router bias moves per step towards equal load (model.md 16.3 d)
PAD_ID = 2


class Batches:
    """Batches of rows from the shards of a folder, each shard once before any twice, read by a thread."""

    def __init__(self, folder, rows, device, seed):
        self.folder, self.rows, self.device = folder, rows, device
        self.random = random.Random(seed)
        self.used = {}
        self.ready = queue.Queue(maxsize=8)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            shards = glob.glob(os.path.join(self.folder, "shard-*.npz"))
            shards = [s for s in shards if not s.endswith(".tmp.npz")]
            if not shards:
                time.sleep(0.5)
                continue
            fewest = min(self.used.get(s, 0) for s in shards)
            shard = self.random.choice([s for s in shards if self.used.get(s, 0) == fewest])
            self.used[shard] = fewest + 1
            arrays = numpy.load(shard)
            arrays = [torch.from_numpy(arrays[name].astype(kind)) for name, kind in
                      (("tokens", numpy.int64), ("weight", numpy.float32), ("start", numpy.int64))]
            order = torch.randperm(arrays[0].shape[0])
            for i in range(0, len(order) - self.rows + 1, self.rows):
                batch = [a[order[i:i + self.rows]] for a in arrays]
                self.ready.put([b.pin_memory() if self.device == "cuda" else b for b in batch])

    def next(self):
        tokens, weight, start = [b.to(self.device, non_blocking=True) for b in self.ready.get()]
        return tokens, weight / 100, start


def weighted_loss(features, head, targets, weight):
    """Mean cross entropy of the head's logits, in float32, with a weight per position. features (B, T, E)"""
    logits = F.linear(features, head.to(features.dtype)).float()
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    weight = weight.flatten()
    return (losses * weight).sum() / weight.sum().clamp(min=1)


def shifted(tokens, weight, start, by):
    """Targets `by` tokens ahead; those of another document or beyond the row count nothing."""
    targets = F.pad(tokens[:, by:], (0, by))
    w = F.pad(weight[:, by:], (0, by))
    same = F.pad(start[:, by:], (0, by), value=-1) == start
    return targets, w * same


def losses_of(model, loss, tokens, weight, start):
    """-> trunk loss, MTP loss, indexer loss, chosen experts per layer (the MTP block last)"""
    streams, index_loss, routes = model.trunk(tokens, start)
    features = model.norm(model.hc_head(streams[-1])).to(model.dtype)
    trunk = loss(features, model.head.weight, *shifted(tokens, weight, start, 1))
    drafted, ids = model.draft(streams[-1], tokens, start)
    mtp = loss(drafted.to(model.dtype), model.head.weight, *shifted(tokens, weight, start, 2))
    return trunk, mtp, index_loss, routes + [ids]


@torch.no_grad()
def balance(model, routes, tokens, step):
    """Moves each router's bias towards the experts that got fewer tokens than the mean."""
    valid = (tokens != PAD_ID).flatten().float()
    for layer, ids in zip(model.all_layers(), routes):
        gate = layer.ffn.gate
        if gate.hashed:
            continue
        load = torch.zeros_like(gate.bias).index_add_(0, ids.flatten(), valid.repeat_interleave(ids.shape[1]))
        gate.bias += step * torch.sign(load.mean() - load)
        gate.bias -= gate.bias.mean()


def rate(step, fraction, decay_from):
    """Share of the full learning rate: a short warm-up, flat, then linear to a small rest by the clock."""
    warm = min(1.0, (step + 1) / 100)
    return warm * (1.0 if fraction < decay_from else max(0.01, (1 - fraction) / (1 - decay_from)))


def save(folder, model):
    os.makedirs(folder, exist_ok=True)
    checkpoint.save(folder, checkpoint.split_experts(released_names(model.state_dict())))
    shutil.copy(os.path.join(HERE, "config.json"), folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--config", default=os.path.join(HERE, "config.json"))
    parser.add_argument("--minutes", type=float, default=9, help="wall-clock of the whole run, compilation included")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.02, help="of the matrices; the others follow in proportion")
    parser.add_argument("--decay-from", type=float, default=0.45)
    parser.add_argument("--select-from", type=float, default=0.75, help="share of the run after which top-k selects")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", type=int, default=1, help="0 nothing, 1 everything, 2 all but the CSA attention")
    parser.add_argument("--fast", type=int, default=1)
    parser.add_argument("--max-steps", type=int, default=1 << 30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", help="where to leave the state for --resume")
    parser.add_argument("--resume")
    parser.add_argument("--init", help="a checkpoint to start from, with a new optimizer")
    parser.add_argument("--cache", help="a file that keeps compiled code between runs")
    args = parser.parse_args()
    begin = time.time()
    deadline = begin + 60 * args.minutes

    torch.manual_seed(args.seed)
    gpu = args.device == "cuda"
    ops = Ops()
    if gpu:
        torch.backends.cuda.matmul.allow_tf32 = True
        if args.fast:
            import fast
            ops = Ops(fast.sinkhorn, fast.routed_experts)
    config = Config.load(args.config)
    model = Model(config, ops, torch.bfloat16 if gpu else torch.float32)
    with torch.no_grad():
        model.embed.weight.mul_(0.7)
        for layer in model.all_layers():
            layer.attn.wo_b.weight.mul_(0.5)
            layer.ffn.experts.w2.mul_(0.5)
    model.to(args.device).train()
    muon, adam = optimizer.build(model, args.device)
    first_step = tokens_seen = 0
    seconds_before = 0.0
    if args.init:
        model.load_state_dict(module_names(checkpoint.stack_experts(checkpoint.load(args.init))))
    if args.resume:
        state = torch.load(args.resume, map_location=args.device)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        for v, kept in zip(muon.velocity, state["muon"]):
            v.copy_(kept)
        first_step, tokens_seen, seconds_before = state["step"], state["tokens"], state["seconds"]
    loss = weighted_loss
    if args.cache and os.path.exists(args.cache):
        with open(args.cache, "rb") as file:
            torch.compiler.load_cache_artifacts(lzma.decompress(file.read()))
    if args.compile:
        # Layers of one kind share one compiled graph; a layer's two halves are compiled apart because both recur.
        for layer in model.all_layers():
            if args.compile == 1 or layer.attn.ratio != 4:
                layer.attend = torch.compile(layer.attend, dynamic=False)
            layer.feed = torch.compile(layer.feed, dynamic=False)
        loss = torch.compile(weighted_loss, dynamic=False)

    os.makedirs(args.out, exist_ok=True)
    batches = Batches(args.data, args.rows, args.device, args.seed + first_step)
    table = open(os.path.join(args.out, "loss.csv"), "w", newline="")
    log = csv.writer(table)
    log.writerow(["step", "tokens", "seconds", "loss", "mtp_loss", "indexer_loss", "rate"])
    everything = 1 << 30
    model.top_k.fill_(everything)
    started, step = None, first_step
    while step - first_step < args.max_steps:
        now = time.time()
        if now >= deadline:
            break
        # The clock of the schedule starts when compilation is over.
        if step - first_step == 3:
            if gpu:
                torch.cuda.synchronize()
            started = time.time()
        fraction = 0.0 if started is None else (time.time() - started) / max(1e-9, deadline - started)
        if args.max_steps < everything:
            fraction = max(fraction, (step - first_step) / args.max_steps)
        scale = rate(step - first_step, fraction, args.decay_from)
        if fraction >= args.select_from:
            model.top_k.fill_(config.index_topk)

        tokens, weight, start = batches.next()
        trunk, mtp, index_loss, routes = losses_of(model, loss, tokens, weight, start)
        (trunk + MTP_SHARE * mtp + INDEX_SHARE * index_loss).backward()
        for group in adam.param_groups:
            group["lr"] = group["base"] * scale * args.lr / 0.02
        adam.step()
        muon.step(args.lr * scale)
        balance(model, routes, tokens, BIAS_STEP * scale)
        model.zero_grad(set_to_none=True)
        step += 1
        tokens_seen += tokens.numel()
        if step % 50 == 0 or step - first_step in (1, 10):
            row = [step, tokens_seen, round(seconds_before + time.time() - begin, 1)] + [round(float(v.detach()), 4) for v in (trunk, mtp, index_loss)] + [round(scale, 4)]
            log.writerow(row)
            if step % 250 == 0 or step - first_step <= 50:
                table.flush()
                print("step %d, %.1f M tokens, %.0f s: loss %.4f, MTP %.4f, indexer %.4f, rate %.3f" % (step, tokens_seen / 1e6, *row[2:]), flush=True)
    elapsed = time.time() - started if started else 0
    if started and step - first_step > 3:
        print("%.0f tokens/s after compilation, %d steps, %.1f s; shards read: %d, most often %d times" % (
            (step - first_step - 3) * args.rows * tokens.shape[1] / max(elapsed, 1e-9), step, elapsed, len(batches.used), max(batches.used.values())), flush=True)
    if gpu:
        print("%.1f GiB of GPU memory at the peak" % (torch.cuda.max_memory_allocated() / 2 ** 30))
    table.close()
    save(args.out, model)
    if args.cache:
        with open(args.cache, "wb") as file:
            file.write(lzma.compress(torch.compiler.save_cache_artifacts()[0], preset=1))
    if args.state:
        torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.velocity, "step": step, "tokens": tokens_seen,
                    "seconds": seconds_before + time.time() - begin}, args.state)
    # Which experts the last batch used: a router that has collapsed shows here.
    for l, ids in enumerate(routes):
        load = torch.bincount(ids.flatten(), minlength=config.n_routed_experts).float()
        print("layer %d: largest expert load %.2f of the mean, smallest %.2f" % (l, (load.max() / load.mean()).item(), (load.min() / load.mean()).item()))


if __name__ == "__main__":
    main()
