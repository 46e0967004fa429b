import numpy as np
import pytest
import yaml
from synthetic import make_clips

from vsr import bench_data
from vsr.data import REDSDataset
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
        "val_partition": None,
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


def test_timing_changes_no_sample(options_file):
    root = options_file.parent
    arguments = root / "train_sharp", root / "train_sharp_bicubic", root / "meta_info.txt"
    plain, timed = (REDSDataset(*arguments, gt_size=32, num_frame=3, val_partition=None) for _ in range(2))
    stages, _ = bench_data.time_stages(timed, 0, 4)
    assert all(milliseconds >= 0 for milliseconds in stages)
    assert stages.decoding > 0
    np.testing.assert_array_equal(timed[3]["gt"].numpy(), plain[3]["gt"].numpy())


def test_mistakes_are_user_errors(options_file):
    with pytest.raises(UserError, match="--samples 0"):
        bench_data.main(["-opt", str(options_file), "--samples", "0"])
    with pytest.raises(UserError, match="mistake"):
        bench_data.main(["-opt", str(options_file), "--set", "datasets.train.dataroot_gt=nowhere"])
