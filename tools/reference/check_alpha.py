"""Checks the reference model against golden values: python3 check_alpha.py GOLDEN_FOLDER

GOLDEN_FOLDER holds alpha/ (a random checkpoint with expected logits and streams) and rounding/.
"""

import os
import sys

import numpy
import torch

import checkpoint
from config import Config
from model import Model, module_names
from rounding import fp4_round, fp8_round, hadamard

failures = []


def report(name, passed, text):
    print("%-4s %-22s %s" % ("ok" if passed else "FAIL", name, text))
    if not passed:
        failures.append(name)


def check_rounding(folder):
    def rows(name, width):
        return torch.from_numpy(numpy.fromfile(os.path.join(folder, name), "<f4")).view(-1, width)

    def check(name, got, want):
        report(name, torch.equal(got.view(torch.int32), want.view(torch.int32)), "%d rows, bits" % len(want))

    check("fp8", fp8_round(rows("fp8.in.f32", 64)), rows("fp8.out.f32", 64))
    check("fp4", fp4_round(rows("fp4.in.f32", 32)), rows("fp4.out.f32", 32))
    turned = hadamard(rows("hadamard_fp4.in.f32", 128))
    check("hadamard", turned, rows("hadamard_fp4.hadamard.f32", 128))
    check("hadamard + fp4", fp4_round(turned), rows("hadamard_fp4.out.f32", 128))


def check_model(folder):
    model = Model(Config.load(os.path.join(folder, "config.json"))).eval()
    state = module_names(checkpoint.stack_experts(checkpoint.load(folder)))
    model.load_state_dict(state)
    expected = checkpoint.load_file(os.path.join(folder, "expected.safetensors"))
    tokens = expected["tokens"].long().unsqueeze(0)
    positions = expected["positions"].long()

    def compare(name, got, want, limit=2e-4):
        error = (got - want).abs().max().item()
        report(name, error <= limit, "max error %.2e (limit %.0e)" % (error, limit))

    with torch.no_grad():
        model.rounding = False
        logits, streams, drafted = model(tokens, mtp=True)
        compare("logits", logits[0], expected["logits"])
        compare("mtp_logits", drafted[0], expected["mtp_logits"])
        for l, S in enumerate(streams):
            compare("hidden.%d" % l, S[0, positions], expected["hidden.%d" % l])
        model.rounding = True
        logits = model(tokens)[0][0]
        compare("logits_qat, 12 rows", logits[:12], expected["logits_qat"][:12], 1e-3)
        same = (logits.argmax(-1) == expected["logits_qat"].argmax(-1)).float().mean().item()
        report("logits_qat, argmax", same >= 0.95, "%.1f %% equal (at least 95)" % (100 * same))


def main():
    torch.set_num_threads(2)
    golden = sys.argv[1]
    check_rounding(os.path.join(golden, "rounding"))
    check_model(os.path.join(golden, "alpha"))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
