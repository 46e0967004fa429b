"""Times pixsentence's read beside bare ``scaled_dot_product_attention`` with the same widths, and measures both peaks.

    python benchmarks/whole_space.py                        # about twelve minutes of a CPU core
    python benchmarks/whole_space.py --maps 64x64 90x160    # three minutes
    python benchmarks/whole_space.py --save NAME            # keeps benchmarks/results/whole_space_NAME.json

Bare attention gets its queries and keys as it wants them, (1, 1, positions, channels); the keys are also the values, as
in pixsentence without embeddings. Each form runs in a process of its own and keeps freed memory, as ``vsr.train`` does;
they take turns, a pass each. ``naive`` computes all scores (tests/memory_oracle.py). The peak is how far the memory in
use rises in the first pass, without the features themselves.
"""

import argparse
import ctypes
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from memory import MIB, Case, Peak, reader
from torch import Tensor
from torch.nn import functional as F
from turns import answers_in_turn, keep_freed_memory, serve, started

RESULTS = Path(__file__).parent / "results"
NUM_FRAME = 5
HEAD = (
    "| map | pass | precision | form | processor s | spread | of bare | peak extra MiB | features MiB |",
    f"|{'---|' * 9}",
)
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


class Row(NamedTuple):
    """A map that the forms read in turns."""

    size: tuple[int, int]
    backward: bool
    forms: tuple[str, ...]
    rounds: int
    channels: int = 128


ROWS = [
    Row((64, 64), True, ("vsr", "bare", "naive"), 3),
    Row((90, 160), False, ("vsr", "bare"), 3),
    Row((180, 320), False, ("vsr", "bare"), 1),
]


def attention(form: str, row: Row, dtype: torch.dtype) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """Returns a read and its inputs."""
    torch.manual_seed(0)
    query = torch.randn(1, row.channels, *row.size, dtype=dtype)
    sentences = torch.randn(1, NUM_FRAME, row.channels, *row.size, dtype=dtype)
    if form == "bare":
        tokens = [x.movedim(2, -1).flatten(1, 3).unsqueeze(1).contiguous() for x in (query[:, None], sentences)]
        return lambda q, k: (F.scaled_dot_product_attention(q, k, k),), tokens
    read, parameters = reader(Case("pixsentence", form, 0, row.size, row.channels), "cpu")
    for parameter in parameters:  # the embeddings: identities, so that all forms read the same
        parameter.data = torch.eye(row.channels, dtype=dtype).view_as(parameter)
    return read, [query, sentences]


def passes(form: str, row: Row, dtype: torch.dtype) -> Callable[[], dict[str, Any]]:
    """Returns a function that makes a pass and returns how far the memory in use rose, in MiB."""
    keep_freed_memory()
    small, inputs = (attention(form, chosen, dtype) for chosen in (row._replace(size=(8, 8)), row))

    def once(read: Callable[..., tuple[Tensor, ...]], tensors: list[Tensor]) -> None:
        tensors = [tensor.detach().requires_grad_(row.backward) for tensor in tensors]
        with torch.set_grad_enabled(row.backward):
            outputs = read(*tensors)
            if row.backward:
                torch.stack([output.float().mean() for output in outputs]).sum().backward()

    once(*small)  # libraries loaded, threads started
    with suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)  # memory that the inputs' making freed would hide some of the peak

    def measured() -> dict[str, Any]:
        with Peak("cpu") as rise:
            once(*inputs)
        return {"extra_mib": rise.extra / MIB}

    return measured


def measure(number: int, precision: str, threads: int) -> list[dict[str, Any]]:
    """Returns the results of a row's forms, which take turns."""
    row = ROWS[number]
    words = ["--serve", str(number), "--precision", precision, "--threads", str(threads)]
    processes = {form: started(__file__, [*words, "--form", form], None) for form in row.forms}
    kept = []
    for form, answers in answers_in_turn(processes, row.rounds, "pass").items():
        cpu, wall = ([answer["seconds"][clock] for answer in answers] for clock in range(2))
        features = (1 + NUM_FRAME) * row.channels * row.size[0] * row.size[1] * DTYPES[precision].itemsize
        kept.append({"size": row.size, "backward": row.backward, "channels": row.channels, "precision": precision})
        kept[-1] |= {"form": form, "cpu_seconds": cpu, "wall_seconds": wall}
        kept[-1] |= {"fastest": min(cpu), "spread": max(cpu) - min(cpu)}
        kept[-1] |= {"peak_extra_mib": answers[0]["extra_mib"], "features_mib": features / MIB}
    return kept


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """Returns lines of the table; the ratios are of the fastest passes' processor times."""
    bare = {(*row["size"], row["precision"]): row["fastest"] for row in rows if row["form"] == "bare"}
    lines = []
    for row in rows:
        height, width = row["size"]
        head = f"| {height}×{width} | {'f+b' if row['backward'] else 'f'} | {row['precision']} | {row['form']} "
        spread = f"{row['spread']:.2g}" if row["spread"] else "one pass"
        times = f"| {row['fastest']:.4g} | {spread} "
        times += f"| {row['fastest'] / bare[height, width, row['precision']]:.2f} "
        lines.append(f"{head}{times}| {row['peak_extra_mib']:.0f} | {row['features_mib']:.0f} |")
    return lines


def main(words: list[str] | None = None) -> None:
    """Measures, prints a table, and keeps it with ``--save``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    maps = ["x".join(map(str, row.size)) for row in ROWS]
    parser.add_argument("--maps", choices=maps, nargs="+", default=maps, help="only these")
    parser.add_argument("--precision", choices=list(DTYPES), nargs="+", default=list(DTYPES), help="one after another")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", metavar="NAME")
    parser.add_argument("--note", default="", help="kept with the results: who else used the machine")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--form", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.serve is not None:
        torch.set_num_threads(options.threads)
        return serve(passes(options.form, ROWS[options.serve], DTYPES[options.precision[0]]))
    print("\n".join(HEAD))
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(maps):
        for precision in options.precision if name in options.maps else ():
            rows += (measured := measure(number, precision, options.threads))
            print("\n".join(lines_of(measured)), flush=True)
    if options.save:
        from machine import machine

        about = {**machine("cpu"), "threads": options.threads, "note": options.note}
        file = RESULTS / f"whole_space_{options.save}.json"
        file.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
