"""Puts a trained network into the package, in 16 bits, with its card: tests it on the test sets of its options first.

    python scripts/ship_network.py -opt options/pretrained/edvr_small.yml

Writes vsr/pretrained/NAME.safetensors and NAME.md, the card: network, data, licence, degradation, iterations, and the
scores of the very file beside bicubic's.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vsr import config, env, test
from vsr.config.command_line import options_parser
from vsr.engine.saving import checkpoints
from vsr.utils.errors import UserError, exit_cleanly

PRETRAINED = Path(__file__).resolve().parents[1] / "vsr" / "pretrained"
LARGEST = 4 * 2**20  # bytes: the file is part of every installation
LICENCE = "CC BY 4.0; trained on Big Buck Bunny, (c) Blender Foundation, CC BY 3.0, https://peach.blender.org"
CARD = """# {name}

| | |
| --- | --- |
| network | `{network}` |
| parameters | {parameters:,}, stored in 16 bits |
| trained on | {data} |
| degradation | MATLAB's bicubic, ×{scale}: compressed, noisy or blurred video is another task, and may come out worse |
| training | {iterations} iterations of {options}, seed {seed}; the average of the weights |
| licence | {licence} |
| made | {date}, vsr {version}, PyTorch {torch} |

Scores of this file, by `vsr test -opt {options} --weights vsr/pretrained/{name}.safetensors` on {machine}:

{table}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the network and its card."""
    parser = options_parser("scripts/ship_network.py", __doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--to", type=Path, default=PRETRAINED, metavar="FOLDER", help="(vsr/pretrained)")
    args = parser.parse_args(arguments)
    options = config.load(args.opt, args.set, need="both")
    newest = checkpoints.newest_weights(Path("experiments") / options.name)
    trained = newest.with_suffix(".safetensors") if newest else None
    if trained is None or not trained.is_file():
        raise UserError(f"experiments/{options.name}/models has no .safetensors: train {args.opt} first")
    file = args.to / f"{options.name}.safetensors"
    about = to_half(trained, file)
    if file.stat().st_size > LARGEST:
        raise UserError(f"{file} has {file.stat().st_size:,} bytes, expected at most {LARGEST:,}: take fewer features")
    settings = [part for setting in args.set for part in ("--set", setting)]
    test.main(["-opt", args.opt, "--weights", str(file), *settings])
    results = json.loads((Path("results") / options.name / "metrics.json").read_text())
    card = CARD.format(
        name=options.name,
        network=about["vsr.network"],
        parameters=sum(parameter.numel() for parameter in options.network_g().parameters()),
        data=options.datasets["train"].settings.get("meta_info_file"),
        scale=about["vsr.scale"],
        iterations=about["vsr.iteration"],
        options=args.opt,
        seed=options.manual_seed,
        licence=LICENCE,
        date=date.today().isoformat(),
        version=about["vsr.version"],
        torch=torch.__version__,
        machine=env.devices()[0],
        table=table(results["datasets"]),
    )
    file.with_suffix(".md").write_text(card)
    print(f"{file}: {file.stat().st_size:,} bytes; {file.with_suffix('.md')}")


def to_half(trained: Path, file: Path) -> dict[str, str]:
    """Writes the weights in 16 bits, with the metadata, which it returns."""
    with safe_open(trained, "pt") as content:
        about = content.metadata()
        weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  # no mapping
    file.parent.mkdir(parents=True, exist_ok=True)
    about |= {"vsr.degradation": json.dumps({"type": "bicubic"}), "vsr.licence": LICENCE}
    save_file({name: value.half() for name, value in weights.items()}, file, about)
    file.chmod(0o644)
    return about


def table(datasets: dict[str, Any]) -> str:
    """Returns a Markdown table: a row per clip, network and bicubic side by side."""
    first = next(iter(datasets.values()))["scores"]["network"]["mean"]
    lines = ["| set | clip | " + " | ".join(f"{name}: network | bicubic" for name in first) + " |"]
    lines.append("| --- | --- |" + " ---: |" * (2 * len(first)))
    for name, result in datasets.items():
        for clip, values in result["scores"]["network"].items():
            other = result["scores"]["bicubic"][clip]
            cells = [f"{values[metric]:.3f} | {other[metric]:.3f}" for metric in first]
            lines.append(f"| {name} | {clip} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    exit_cleanly(main)
