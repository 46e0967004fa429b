"""Option files of EDVR's first code (2019), ``network_G: {which_model_G: EDVR}``, in the spelling of BasicSR."""

from itertools import accumulate
from typing import Any

from vsr.config.spellings import rename, rename_values, sections_at
from vsr.data.lists.meta_info import SHIPPED
from vsr.utils.errors import UserError

# as in spellings.py
RENAMED = [
    ("", "model", "trainer"),
    ("", "network_G", "network_g"),
    ("network_g", "which_model_G", "type"),
    ("network_g", "nf", "num_feat"),
    ("network_g", "nframes", "num_frame"),
    ("network_g", "groups", "deformable_groups"),
    ("network_g", "front_RBs", "num_extract_block"),
    ("network_g", "back_RBs", "num_reconstruct_block"),
    ("network_g", "center", "center_frame_idx"),
    ("network_g", "predeblur", "with_predeblur"),
    ("network_g", "HR_in", "hr_in"),
    ("network_g", "w_TSA", "with_tsa"),
    ("path", "pretrain_model_G", "pretrain_network_g"),
    ("train", "lr_G", "train.optim_g.lr"),
    ("train", "weight_decay_G", "train.optim_g.weight_decay"),
    ("train", "niter", "total_iter"),
    ("train", "ft_tsa_only", "tsa_iter"),
    ("train", "lr_scheme", "train.scheduler.type"),
    ("train", "T_period", "train.scheduler.periods"),
    ("train", "eta_min", "train.scheduler.eta_min"),
    ("train", "lr_steps", "train.scheduler.milestones"),
    ("train", "lr_gamma", "train.scheduler.gamma"),
    ("train", "restarts", "train.scheduler.restarts"),
    ("train", "restart_weights", "train.scheduler.restart_weights"),
    ("train", "pixel_criterion", "train.pixel_opt.type"),
    ("train", "pixel_weight", "train.pixel_opt.loss_weight"),
    ("train", "val_freq", "val.val_freq"),
    ("datasets.*", "mode", "type"),
    ("datasets.*", "dataroot_GT", "dataroot_gt"),
    ("datasets.*", "dataroot_LQ", "dataroot_lq"),
    ("datasets.*", "N_frames", "num_frame"),
    ("datasets.*", "n_workers", "num_worker_per_gpu"),
    ("datasets.*", "batch_size", "batch_size_per_gpu"),
    ("datasets.*", "GT_size", "gt_size"),
]
RENAMED_VALUES = [
    ("", "trainer", "video_base", "ScratchTrainer"),
    ("", "trainer", "VideoSR_base", "ScratchTrainer"),
    ("train.scheduler", "type", "CosineAnnealingLR_Restart", "CosineAnnealingRestartLR"),
    ("train.scheduler", "type", "MultiStepLR", "MultiStepRestartLR"),
    ("train.scheduler", "type", "MultiStepLR_Restart", "MultiStepRestartLR"),
    ("train.pixel_opt", "type", "cb", "CharbonnierLoss"),
    ("train.pixel_opt", "type", "l1", "L1Loss"),
    ("train.pixel_opt", "type", "l2", "MSELoss"),
    ("datasets.*", "type", "REDS", "REDSDataset"),
    ("datasets.*", "type", "Vimeo90K", "Vimeo90KDataset"),
    ("datasets.*", "type", "video_test", "VideoTestDataset"),
    ("datasets.*", "padding", "new_info", "reflection_circle"),
]


def translate(tree: dict[str, Any], written: dict[str, str]) -> list[str]:
    """Rewrites a file of 2019 in place; returns a note, and adds to the old key paths by the new ones.

    Raises:
        UserError: values contradict each other.
    """
    if not isinstance(tree.get("network_G"), dict):
        return []
    count = len(rename(tree, RENAMED, written))
    tree.pop("distortion", None)
    for _, train in sections_at(tree, "train"):
        betas = [train.pop(key) for key in ("beta1", "beta2") if key in train]
        train.pop("clear_state", None)
        if "manual_seed" in train:
            tree["manual_seed"] = train.pop("manual_seed")
        for _, optimizer in sections_at(train, "optim_g"):
            optimizer |= {"type": "Adam", **({"betas": betas} if betas else {})}
        for _, loss in sections_at(train, "pixel_opt"):  # they were sums
            loss |= {"reduction": "sum", **({"eps": 1e-6} if loss.get("type") == "cb" else {})}
    rename_values(tree, RENAMED_VALUES)
    for _, schedule in sections_at(tree, "train.scheduler"):
        _set_restarts(schedule)
    for path, dataset in sections_at(tree, "datasets.*"):
        _complete(tree, dataset, path)
    return [f"a file of EDVR's code of 2019: {count} keys are read in BasicSR's spelling"]


def _set_restarts(schedule: dict[str, Any]) -> None:
    """Completes a schedule: ``restarts`` and their weights did not name the start, whose weight is 1."""
    restarts, periods = schedule.pop("restarts", None), schedule.get("periods")
    if isinstance(weights := schedule.get("restart_weights"), list):
        schedule["restart_weights"] = [1, *weights]
    if schedule.get("type") == "MultiStepRestartLR":
        schedule["restarts"] = [0, *restarts] if isinstance(restarts, list) else [0]
    elif isinstance(restarts, list) and isinstance(periods, list) and all(isinstance(one, int) for one in periods):
        ends = list(accumulate(periods))[:-1]
        if restarts != ends:
            raise UserError(f"train.restarts: {restarts}, but the periods of train.T_period end at {ends}")


def _complete(tree: dict[str, Any], dataset: dict[str, Any], path: str) -> None:
    """Adds what the first code took from a data set's files: their kind, and of REDS the clips, from its LMDB."""
    lq, gt, scale = dataset.pop("LQ_size", None), dataset.get("gt_size"), tree.get("scale", 4)
    if isinstance(lq, int) and isinstance(gt, int) and isinstance(scale, int) and lq * scale != gt:
        raise UserError(f"{path}.LQ_size: {lq}, but GT_size is {gt} and scale {scale}, which makes it {gt / scale:g}")
    dataset.pop("cache_keys", None)
    if dataset.get("border_mode") is False:
        del dataset["border_mode"]
    if str(dataset.get("dataroot_gt", "")).endswith(".lmdb"):
        dataset["io_backend"] = {"type": "lmdb"}
    if dataset.get("type") == "REDSDataset":
        dataset |= {"meta_info_file": str(SHIPPED / "meta_info_REDS_GT.txt"), "val_partition": "REDS4"} | dataset
    gpus = tree.get("gpu_ids")
    count, batch = len(gpus) if isinstance(gpus, list) and gpus else 1, dataset.get("batch_size_per_gpu")
    if isinstance(batch, int) and batch % count == 0:  # it was that of all GPUs together
        dataset["batch_size_per_gpu"] = batch // count
