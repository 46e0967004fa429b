"""Compares networks trained and restored in 16 bits with those of float32: PSNR on held-out frames.

    bash scripts/demo.sh                                           # once, for the demo's clips
    python benchmarks/precision.py -opt options/demo.yml --seeds 3 # half an hour of a core

Each seed trains a network in float32 and one in bf16, in `experiments/NAME_PRECISION_seedN`; finished ones are not
repeated, unfinished ones resume. Each is tested in float32 and in bf16. Differences are from the same seed's network
that was trained and tested in float32.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsr import config, test, train
from vsr.utils.errors import exit_cleanly

RESULTS = Path(__file__).resolve().parent / "results"
HEAD = ("| trained | tested | PSNR, dB | mean | difference: mean (least to most) |", "|---|---|---|---|---|")
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


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the table's lines."""
    lines = []
    for row in rows:
        gains, mean = row["gains"], statistics.mean(row["psnr"])
        spread = f"{statistics.mean(gains):+.4f} ({min(gains):+.4f} to {max(gains):+.4f})"
        each = ", ".join(f"{value:.3f}" for value in row["psnr"])
        lines.append(f"| {row['trained']} | {row['tested']} | {each} | {mean:.3f} | {spread} |")
    return lines


def main(words: list[str] | None = None) -> None:
    """Trains and tests, prints the table, and keeps it with ``--save``."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-opt", default="options/demo.yml", metavar="FILE", help="options whose val.metrics name psnr")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="overrides an option")
    parser.add_argument("--save", metavar="NAME", help="keeps benchmarks/results/precision_NAME.json")
    parser.add_argument("--note", default="", help="kept with the results: who else used the machine")
    args = parser.parse_args(words)
    base, seeds = config.read_tree(args.opt)["name"], range(args.seeds)
    rows: list[dict[str, Any]] = []
    for trained in AMP:
        for tested in AMP:
            names = [f"{base}_{trained}_seed{seed}" for seed in seeds]
            psnr = [psnr_of(args.opt, names[seed], trained, tested, seed, args.set) for seed in seeds]
            reference = rows[0]["psnr"] if rows else psnr
            gains = [value - own for value, own in zip(psnr, reference, strict=True)]
            rows.append({"trained": trained, "tested": tested, "psnr": psnr, "gains": gains})
    print("\n" + "\n".join([*HEAD, *lines_of(rows)]))
    if args.save:
        from machine import machine

        about = {**machine("cpu"), "options": Path(args.opt).name, "seeds": args.seeds, "note": args.note}
        file = RESULTS / f"precision_{args.save}.json"
        file.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    exit_cleanly(main)
