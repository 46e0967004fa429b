"""Compares networks trained and restored in 16 bits with those of float32: PSNR on held-out frames.

    python benchmarks/precision.py -opt options/demo.yml --seeds 3

Each seed trains a network in float32 and one in bf16, in `experiments/NAME_PRECISION_seedN`; finished ones are not
repeated, unfinished ones resume. Each is tested in float32 and in bf16. Differences are from the same seed's network
that was trained and tested in float32.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from vsr import config, test, train
from vsr.utils.errors import exit_cleanly

AMP = {"float32": "off", "bf16": "bf16"}  # train.amp by precision


def psnr_of(file: str, name: str, trained: str, tested: str, seed: int, overrides: Sequence[str]) -> float:
    """Trains a network unless its weights exist, tests it unless the result exists, and returns the mean PSNR, dB."""
    results = Path("results") / f"{name}_in_{tested}" / "metrics.json"
    values = [f"name={name}", f"manual_seed={seed}", f"train.amp={AMP[trained]}", "val.save_img=false", *overrides]
    if not results.exists():
        words = ["-opt", file, *(part for value in values for part in ("--set", value))]
        weights = Path("experiments") / name / "models" / f"net_g_{config.load(file, overrides).train.total_iter}.pth"
        if not weights.exists():
            train.main([*words, "--auto_resume"])
        values = [f"name={results.parent.name}", f"val.precision={tested}"]
        test.main([*words, *(part for value in values for part in ("--set", value)), "--weights", str(weights)])
    report = json.loads(results.read_text())
    return statistics.mean(data["scores"]["network"]["mean"]["psnr"] for data in report["datasets"].values())


def main(words: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-opt", default="options/demo.yml", metavar="FILE", help="options whose val.metrics name psnr")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="overrides an option")
    args = parser.parse_args(words)
    base = config.read_tree(args.opt)["name"]
    psnr = {
        (trained, tested, seed): psnr_of(args.opt, f"{base}_{trained}_seed{seed}", trained, tested, seed, args.set)
        for seed in range(args.seeds)
        for trained in AMP
        for tested in AMP
    }
    print("\n| trained | tested | PSNR, dB | mean | difference: mean (least to most) |\n|---|---|---|---|---|")
    for trained, tested in (("float32", "float32"), ("float32", "bf16"), ("bf16", "float32"), ("bf16", "bf16")):
        values = [psnr[trained, tested, seed] for seed in range(args.seeds)]
        gains = [value - psnr["float32", "float32", seed] for seed, value in enumerate(values)]
        each = ", ".join(f"{value:.3f}" for value in values)
        spread = f"{statistics.mean(gains):+.4f} ({min(gains):+.4f} to {max(gains):+.4f})"
        print(f"| {trained} | {tested} | {each} | {statistics.mean(values):.3f} | {spread} |")


if __name__ == "__main__":
    exit_cleanly(main)
