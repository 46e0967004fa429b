"""What may differ between the options of a state and those of the run that resumes from it."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

# these change where and how a run goes, not what it computes; the effective batch is compared by its number
HARMLESS = ("name", "imports", "num_gpu", "path", "logger", "val", "dist_params")
HARMLESS_IN_TRAIN = ("accumulate", "checkpointing", "num_pictures")
HOW_IT_IS_READ = (
    *("batch_size_per_gpu", "num_worker_per_gpu", "prefetch_mode", "num_prefetch_queue", "pin_memory"),
    "degrade_on",
    *("cache_data", "frame_cache", "flow_cache"),
    *("dataroot_gt", "dataroot_lq", "dataroot", "io_backend"),  # data may move
)
HARMLESS_IN_DATASETS = (*HOW_IT_IS_READ, "on_bad_frame", "meta_info_file", "list_file", "name")


def is_harmless(key: str) -> bool:
    """Returns whether an option changes where and how a training runs, and not what it computes."""
    parts = key.split(".")
    if parts[0] == "datasets":
        return parts[1] != "train" or parts[2] in HARMLESS_IN_DATASETS
    return parts[0] in HARMLESS or (parts[0] == "train" and parts[1] in HARMLESS_IN_TRAIN)


def differences(
    former: Mapping[str, Any], current: Mapping[str, Any], may_differ: Callable[[str], bool] = is_harmless
) -> list[str]:
    """Returns the options that would change what is computed, ``key: former → current``."""
    before, now = dict(_flat(former)), dict(_flat(current))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and not may_differ(key)]
    return [f"{key}: {before.get(key)!r} → {now.get(key)!r}" for key in keys]


def training_set_of(settings: Mapping[str, Any], dataset: Sized) -> str:
    """Identifies the samples of a training set: their number, and a hash of the list that names them."""
    lists = [Path(str(settings[key])).expanduser() for key in ("meta_info_file", "list_file") if settings.get(key)]
    words = [file.read_text(encoding="utf-8-sig", errors="replace").split() for file in lists if file.is_file()]
    return f"{len(dataset)} samples" + (f", list {zlib.crc32(repr(words).encode()):08x}" if words else "")


def same_validation(former: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Returns whether two runs validate with the same metrics on the same frames."""

    def measured(tree: Mapping[str, Any]) -> dict[str, Any]:
        sets = {phase: entry for phase, entry in tree["datasets"].items() if phase.startswith("val") and entry}
        entries = {key: value for key, value in _flat(sets) if key.split(".")[1] not in HOW_IT_IS_READ}
        return entries | dict(_flat({"metrics": (tree.get("val") or {}).get("metrics")}))

    return measured(former) == measured(current)


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            yield from _flat(value, here)
        else:
            yield here, value
