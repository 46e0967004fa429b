import pytest
import torch
import yaml
from synthetic import make_clips
from torch.utils.data import Dataset

from vsr import bench_data
from vsr.config.options import LoaderOptions
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


def test_the_report_names_the_parts_of_the_time_and_the_limit(options_file, capsys):
    assert bench_data.main(["-opt", str(options_file), "--samples", "6", "--workers", "0", "1"]) == 0
    output = capsys.readouterr().out
    assert "small: one process, 6 samples:" in output
    assert "  waiting " in output and "ms, decoding and augmenting " in output
    assert "loader with 0 workers, batch 2:" in output
    assert "loader with 1 workers, batch 2:" in output
    limit = output.rsplit("limit: ", 1)[1].split(" (")[0]
    assert limit in bench_data.ADVICE


class OneOfOurOwn(Dataset):
    """A data set of PyTorch's kind, without frame stores."""

    def __len__(self):
        return 4

    def __getitem__(self, key):
        return {"query": torch.zeros(3, 8, 8, dtype=torch.uint8), "key": "a"}


@pytest.mark.parametrize("workers", [0, 1])
def test_any_data_set_is_measured(workers):
    cost = bench_data.measure(OneOfOurOwn(), LoaderOptions(batch_size_per_gpu=3), 0, 4, workers)
    assert cost.elapsed > 0 and cost.worked > 0 and cost.megabytes >= 0


def test_mistakes_are_user_errors(options_file):
    with pytest.raises(UserError, match="--samples 0"):
        bench_data.main(["-opt", str(options_file), "--samples", "0"])
    with pytest.raises(UserError, match="--workers -1 is less than 0"):
        bench_data.main(["-opt", str(options_file), "--workers", "0", "-1"])
    with pytest.raises(UserError, match="mistake"):
        bench_data.main(["-opt", str(options_file), "--set", "datasets.train.dataroot_gt=nowhere"])
