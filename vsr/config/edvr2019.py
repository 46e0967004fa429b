"""Option files of EDVR's first code (2019), ``network_G: {which_model_G: EDVR}``, in the spelling of BasicSR."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from vsr.data.lists.meta_info import SHIPPED
from vsr.utils.errors import UserError

ABSENT = object()
# old key: new key; "*" is the phase of a data set
KEYS = {
    "model": "trainer",
    "use_tb_logger": "logger.use_tb_logger",
    "network_G.which_model_G": "network_g.type",
    "network_G.nf": "network_g.num_feat",
    "network_G.nframes": "network_g.num_frame",
    "network_G.groups": "network_g.deformable_groups",
    "network_G.front_RBs": "network_g.num_extract_block",
    "network_G.back_RBs": "network_g.num_reconstruct_block",
    "network_G.center": "network_g.center_frame_idx",
    "network_G.predeblur": "network_g.with_predeblur",
    "network_G.HR_in": "network_g.hr_in",
    "network_G.w_TSA": "network_g.with_tsa",
    "path.pretrain_model_G": "path.pretrain_network_g",
    "train.lr_G": "train.optim_g.lr",
    "train.weight_decay_G": "train.optim_g.weight_decay",
    "train.niter": "train.total_iter",
    "train.ft_tsa_only": "train.tsa_iter",
    "train.lr_scheme": "train.scheduler.type",
    "train.T_period": "train.scheduler.periods",
    "train.eta_min": "train.scheduler.eta_min",
    "train.lr_steps": "train.scheduler.milestones",
    "train.lr_gamma": "train.scheduler.gamma",
    "train.restart_weights": "train.scheduler.restart_weights",
    "train.pixel_criterion": "train.pixel_opt.type",
    "train.pixel_weight": "train.pixel_opt.loss_weight",
    "train.val_freq": "val.val_freq",
    "train.manual_seed": "manual_seed",
    "datasets.*.mode": "datasets.*.type",
    "datasets.*.dataroot_GT": "datasets.*.dataroot_gt",
    "datasets.*.dataroot_LQ": "datasets.*.dataroot_lq",
    "datasets.*.N_frames": "datasets.*.num_frame",
    "datasets.*.n_workers": "datasets.*.num_worker_per_gpu",
    "datasets.*.batch_size": "datasets.*.batch_size_per_gpu",
    "datasets.*.GT_size": "datasets.*.gt_size",
}
VALUES = {
    "trainer": {"video_base": "ScratchTrainer", "VideoSR_base": "ScratchTrainer"},
    "train.scheduler.type": {
        **dict.fromkeys(("MultiStepLR", "MultiStepLR_Restart"), "MultiStepRestartLR"),
        "CosineAnnealingLR_Restart": "CosineAnnealingRestartLR",
    },
    "train.pixel_opt.type": {"cb": "CharbonnierLoss", "l1": "L1Loss", "l2": "MSELoss"},
    "datasets.*.type": {"REDS": "REDSDataset", "Vimeo90K": "Vimeo90KDataset", "video_test": "VideoTestDataset"},
    "datasets.*.padding": {"new_info": "reflection_circle"},
}
# keys without an effect here, and the only value that has none; ABSENT: any value
DROPPED = {
    "distortion": ABSENT,
    "train.clear_state": ABSENT,
    "datasets.*.cache_keys": ABSENT,
    "datasets.*.border_mode": False,
    "datasets.*.color": "RGB",
}


def translate(tree: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Rewrites a file of 2019 in place; returns a note, and old key paths by the new ones. Other files stay.

    Raises:
        UserError: values contradict each other.
    """
    written: dict[str, str] = {}
    if not isinstance(tree.get("network_G"), dict):
        return [], written
    datasets = tree.get("datasets")
    phases = list(datasets) if isinstance(datasets, dict) else []
    for phase in phases:
        _check_lq_size(tree, phase)
    restarts, betas = _take(tree, "train.restarts"), [_take(tree, f"train.beta{number}") for number in (1, 2)]
    for old, value in _for_each_phase(DROPPED, phases):
        if value is ABSENT or _get(tree, old) == value:
            _take(tree, old)
    for old, new in _for_each_phase(KEYS, phases):
        if (value := _take(tree, old)) is not ABSENT:
            _put(tree, new, value)
            written[new] = old
    note = f"a file of EDVR's code of 2019: {len(written)} keys are read in BasicSR's spelling"
    tree["network_g"] = {**tree.pop("network_G"), **tree.get("network_g", {})}
    written["network_g"] = "network_G"
    criterion = _get(tree, "train.pixel_opt.type")
    for new, names in _for_each_phase(VALUES, phases):
        if isinstance(value := _get(tree, new), str):
            _put(tree, new, names.get(value, value))
    if criterion in VALUES["train.pixel_opt.type"]:  # its losses were sums
        _put(tree, "train.pixel_opt.reduction", "sum")
    if criterion == "cb":
        _put(tree, "train.pixel_opt.eps", 1e-6)
    if _get(tree, "train.optim_g") is not ABSENT:
        _put(tree, "train.optim_g.type", "Adam")
        if ABSENT not in betas:
            _put(tree, "train.optim_g.betas", betas)
    _set_restarts(tree, restarts)
    for phase in phases:
        _complete(tree, f"datasets.{phase}")
    return [note], written


def _for_each_phase(table: Mapping[str, Any], phases: list[str]) -> list[tuple[str, Any]]:
    """Returns a table's entries, those of ``datasets.*`` once for each data set."""
    entries = []
    for key, value in table.items():
        for phase in phases if "*" in key else [""]:
            new = value.replace("*", str(phase)) if isinstance(value, str) else value
            entries.append((key.replace("*", str(phase)), new))
    return entries


def _get(tree: Mapping[str, Any], path: str) -> Any:
    value: Any = tree
    for key in path.split("."):
        value = value.get(key, ABSENT) if isinstance(value, dict) else ABSENT
    return value


def _take(tree: dict[str, Any], path: str) -> Any:
    """Removes a value and returns it."""
    section, _, key = path.rpartition(".")
    mapping = _get(tree, section) if section else tree
    return mapping.pop(key, ABSENT) if isinstance(mapping, dict) else ABSENT


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *sections, key = path.split(".")
    for section in sections:
        if not isinstance(tree.get(section), dict):
            tree[section] = {}
        tree = tree[section]
    tree[key] = value


def _check_lq_size(tree: dict[str, Any], phase: str) -> None:
    """Removes ``LQ_size``, which follows from ``GT_size`` and the scale."""
    path = f"datasets.{phase}.LQ_size"
    lq, gt, scale = _take(tree, path), _get(tree, f"datasets.{phase}.GT_size"), tree.get("scale", 4)
    if isinstance(lq, int) and isinstance(gt, int) and isinstance(scale, int) and lq * scale != gt:
        raise UserError(f"{path}: {lq}, but GT_size is {gt} and scale {scale}, which makes it {gt / scale:g}")


def _set_restarts(tree: dict[str, Any], restarts: Any) -> None:
    """Completes the schedule: ``restarts`` and their weights did not name the start, whose weight is 1."""
    schedule = _get(tree, "train.scheduler")
    if not isinstance(schedule, dict):
        return
    if isinstance(schedule.get("restart_weights"), list):
        schedule["restart_weights"] = [1, *schedule["restart_weights"]]
    if schedule.get("type") == "MultiStepRestartLR":
        schedule["restarts"] = [0, *restarts] if isinstance(restarts, list) else [0]
    elif isinstance(restarts, list) and isinstance(schedule.get("periods"), list):
        ends = list(accumulate(schedule["periods"]))[:-1]
        if restarts != ends:
            raise UserError(f"train.restarts: {restarts}, but the periods of train.T_period end at {ends}")


def _complete(tree: dict[str, Any], path: str) -> None:
    """Adds what the first code took from a data set's files: their kind, and of REDS the clips, from its LMDB."""
    dataset = _get(tree, path)
    if not isinstance(dataset, dict):
        return
    if str(dataset.get("dataroot_gt", "")).endswith(".lmdb"):
        dataset["io_backend"] = {"type": "lmdb"}
    if dataset.get("type") == "REDSDataset":
        dataset |= {"meta_info_file": str(SHIPPED / "meta_info_REDS_GT.txt"), "val_partition": "REDS4"} | dataset
    count = len(tree["gpu_ids"]) if isinstance(tree.get("gpu_ids"), list) and tree["gpu_ids"] else 1
    batch = dataset.get("batch_size_per_gpu")
    if isinstance(batch, int) and batch % count == 0:  # it was that of all GPUs together
        dataset["batch_size_per_gpu"] = batch // count
