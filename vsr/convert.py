"""Converts weights between the forms of BasicSR, mmagic and safetensors: ``python -m vsr.convert IN OUT``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import vsr
from vsr.archs.build import spec_of
from vsr.archs.recognize import PARTS, recognize, spelt
from vsr.archs.weight_names import to_mmagic
from vsr.engine.saving.checkpoints import save, save_safetensors
from vsr.utils.errors import UserError, exit_cleanly
from vsr.utils.weight_files import read_weights


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the weights in another form, prints the network that they are of, and returns the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="vsr convert", description="Converts weights of published networks."
    )
    parser.add_argument("input", type=Path, help="a .pth or .safetensors file, in any of the three forms")
    parser.add_argument("output", type=Path, help="the file to write: .safetensors, or .pth in the form of --form")
    parser.add_argument("--form", choices=("basicsr", "mmagic"), default="basicsr", help="of a .pth file")
    parser.add_argument("--key", help="the input's entry; by default params_ema where it is there, otherwise params")
    args = parser.parse_args(arguments)
    if args.output.suffix not in (".pth", ".safetensors"):
        raise UserError(f"{args.output}: expected a name that ends in .pth or .safetensors")
    if args.output.exists():
        raise UserError(f"{args.output} exists: remove it, or choose another name")
    found = recognize(read_weights(args.input, args.key, prefer="params_ema"), args.input)
    if args.output.suffix == ".safetensors":
        scale = spec_of(found.build()).scale if found.options["type"] not in PARTS else None
        about = {"vsr.version": vsr.__version__, "vsr.network": json.dumps(found.options)}
        save_safetensors(args.output, found.weights, about | ({} if scale is None else {"vsr.scale": str(scale)}))
    else:
        prefix = "" if found.options["type"] in PARTS else "generator."
        mmagic = {"state_dict": to_mmagic(found.weights, prefix)}
        content = mmagic if args.form == "mmagic" else {"params": found.weights}
        save(args.output, content)
    sys.stdout.write(f"{args.output}: {spelt(found.options)}\n")
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
