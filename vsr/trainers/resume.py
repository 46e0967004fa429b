"""What may differ between the options of a state and those of the run that goes on from it."""

from collections.abc import Iterator, Mapping
from typing import Any

# these change where and how a run goes, not what it computes; the effective batch is compared by its number
HARMLESS = ("name", "num_gpu", "path", "logger", "val", "dist_params")
HARMLESS_IN_TRAIN = ("accumulate", "checkpointing", "num_pictures")
HARMLESS_IN_DATASETS = (
    *("batch_size_per_gpu", "num_worker_per_gpu", "prefetch_mode", "num_prefetch_queue", "pin_memory"),
    *("augment_on_gpu", "cache_data", "on_bad_frame"),
    *("dataroot_gt", "dataroot_lq", "dataroot", "meta_info_file", "list_file", "io_backend", "name"),  # data may move
    *("frame_cache", "flow_cache"),
)


def differences(former: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Returns the options that would change what is computed, ``key: former → current``."""
    before, now = dict(_flat(former)), dict(_flat(current))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and not _is_harmless(key)]
    return [f"{key}: {before.get(key)!r} → {now.get(key)!r}" for key in keys]


def _is_harmless(key: str) -> bool:
    parts = key.split(".")
    if parts[0] == "datasets":
        return parts[1] != "train" or parts[2] in HARMLESS_IN_DATASETS
    return parts[0] in HARMLESS or (parts[0] == "train" and parts[1] in HARMLESS_IN_TRAIN)


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            yield from _flat(value, here)
        else:
            yield here, value
