import numpy as np
import pytest
import torch
import yaml
from samples import sample_of
from synthetic import make_clips
from torch.utils.data import Dataset

from vsr.config.options import LoaderOptions
from vsr.data import REDSDataset
from vsr.tools import bench_data
from vsr.utils.errors import UserError


@pytest.fixture(scope="module")
def options_file(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    made = make_clips(root, num_clips=1, num_frames=6, gt_size=(32, 48))
    train = {
        "type": "REDSDataset",
        "name": "small",
        "dataroot_gt": str(made.gt),
        "dataroot_lq": str(made.lq),
        "meta_info_file": str(made.meta),
        "val_partition": "none",
        "gt_size": 32,
        "num_frame": 3,
        "batch_size_per_gpu": 2,
        "num_worker_per_gpu": 1,
    }
    network = {"type": "EDVR", "num_feat": 8, "num_frame": 3, "num_extract_block": 1, "num_reconstruct_block": 1}
    steps = {
        "total_iter": 1,
        "optim_g": {"type": "Adam", "lr": 1e-4},
        "scheduler": {"type": "CosineAnnealingRestartLR", "periods": [1]},
        "pixel_opt": {"type": "CharbonnierLoss"},
    }
    file = root / "options.yml"
    options = {"name": "bench", "scale": 4, "num_gpu": 0, "datasets": {"train": train}, "network_g": network}
    file.write_text(yaml.safe_dump({**options, "train": steps}))
    return file


def test_the_report_names_every_stage_and_the_limit(options_file, capsys):
    assert bench_data.main(["-opt", str(options_file), "--samples", "6", "--workers", "0", "1"]) == 0
    output = capsys.readouterr().out
    assert "small: one process, 6 samples:" in output
    for stage in ("waiting", "decoding", "augmenting"):
        assert f"  {stage} " in output
    assert "loader with 0 workers, batch 2:" in output
    assert "loader with 1 workers, batch 2:" in output
    limit = output.rsplit("limit: ", 1)[1].split(" (")[0]
    assert limit in bench_data._ADVICE


@pytest.mark.parametrize("augment_on_gpu", [False, True])
def test_timing_changes_no_sample(options_file, augment_on_gpu):
    root = options_file.parent
    arguments = root / "train_sharp", root / "train_sharp_bicubic", root / "meta_info.txt"
    plain, timed = (REDSDataset(*arguments, gt_size=32, num_frame=3, val_partition="none") for _ in range(2))
    loader = LoaderOptions(batch_size_per_gpu=3, augment_on_gpu=augment_on_gpu)
    stages, _ = bench_data.time_stages(timed, loader, 0, 4)
    assert all(milliseconds >= 0 for milliseconds in stages)
    assert stages.decoding > 0
    np.testing.assert_array_equal(sample_of(timed, 3)["gt"], sample_of(plain, 3)["gt"])


class WithoutStores(Dataset):
    """A data set that decodes in a place of its own, as those of next-frame prediction do."""

    def __len__(self):
        return 4

    def __getitem__(self, key):
        return {"query": torch.zeros(3, 8, 8, dtype=torch.uint8), "key": "a"}


def test_a_data_set_without_stores_is_timed_as_a_whole():
    stages, _ = bench_data.time_stages(WithoutStores(), LoaderOptions(batch_size_per_gpu=2), 0, 4)
    assert stages.decoding > 0
    assert stages.augmenting == 0


def test_mistakes_are_user_errors(options_file):
    with pytest.raises(UserError, match="--samples 0"):
        bench_data.main(["-opt", str(options_file), "--samples", "0"])
    with pytest.raises(UserError, match="--workers -1 is less than 0"):
        bench_data.main(["-opt", str(options_file), "--workers", "0", "-1"])
    with pytest.raises(UserError, match="mistake"):
        bench_data.main(["-opt", str(options_file), "--set", "datasets.train.dataroot_gt=nowhere"])
