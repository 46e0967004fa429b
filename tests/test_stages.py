"""Progressive training: clips, crops and batches that grow with the iteration."""

import pytest
from training import assert_same_weights, log_of, rows, small_options, weights, write_options

from vsr import config
from vsr.engine import step
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")
STAGES = [{"from_iter": 3, "num_frame": 4, "batch_size_per_gpu": 3}, {"from_iter": 5, "num_frame": 6, "gt_size": 48}]


@pytest.fixture
def options(clips, monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])

    def made(name="small", stages=STAGES, **changes):
        network = {"network_g": {"type": "RecurrentNetwork"}, "imports": ["recurrent_network"]}
        train_set = {"datasets__train__type": "REDSRecurrentDataset", "datasets__train__num_frame": 2}
        train_set |= {"datasets__train__stages": stages, "datasets__val": None}
        return small_options(clips, name=name, **network, **{**train_set, "train__total_iter": 6, **changes})

    return made


@pytest.mark.parametrize("workers", [0, 2])
def test_clips_crops_and_batches_grow_in_their_iterations(options, train, monkeypatch, workers):
    shapes, to_device = [], step.to_device
    monkeypatch.setattr(
        step, "to_device", lambda batch, device: shapes.append(batch["gt"].shape) or to_device(batch, device)
    )
    train(options(datasets__train__num_worker_per_gpu=workers))
    assert [tuple(shape) for shape in shapes] == [
        *[(2, 2, 3, 32, 32)] * 2,
        *[(3, 4, 3, 32, 32)] * 2,
        *[(3, 6, 3, 48, 48)] * 2,
    ]


def test_a_progressive_training_resumes_before_at_and_after_a_boundary(tmp_path, options, train):
    common = {"logger__save_checkpoint_freq": 1, "logger__keep_states": 9}
    train(options("whole", **common))
    assert "stage from iteration 3 on: effective batch 3" in log_of(tmp_path, "whole")
    for iteration in (1, 2, 3, 4):
        state = f"experiments/whole/training_states/{iteration}.state"
        train(options(f"from_{iteration}", path__resume_state=state, **common))
        assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, f"from_{iteration}", 6))
        assert rows(tmp_path, f"from_{iteration}")[-1] == rows(tmp_path, "whole")[-1]
    with pytest.raises(UserError, match=r"datasets\.train\.stages: .* → "):
        train(options("whole", stages=STAGES[:1], train__total_iter=7), "--auto_resume")


@pytest.mark.parametrize(
    ("stages", "mistake"),
    [
        ([{"from_iter": 5, "num_frame": 3}, {"from_iter": 3}], "stages: begin in iterations [5, 3]: give each its own"),
        (
            [{"from_iter": 2, "num_frame": 90}],
            "stages[0]: clip '000' has 6 frames, but num_frame 90 at interval 1 needs",
        ),
        ([{"from_iter": 2}, {"from_iter": 3, "gt_size": 50}], "stages[1]: gt_size 50 is not a multiple of scale 4"),
        ([{"from_iter": 2, "gt_size": 640}], "stages[0]: gt_size 640 is larger than the frames of clip '000'"),
    ],
)
def test_stages_that_the_clips_do_not_allow_are_mistakes(tmp_path, options, stages, mistake):
    with pytest.raises(UserError) as error:
        config.load(write_options(tmp_path, options(stages=stages)))
    assert f"datasets.train.{mistake}" in str(error.value)


def test_stages_are_compared_with_the_network(tmp_path, clips):
    options = small_options(clips, datasets__train__stages=[{"from_iter": 2, "num_frame": 5}])
    with pytest.raises(UserError, match=r"datasets\.train\.stages\[0\]\.num_frame: 5, but network_g\.num_frame is 3"):
        config.load(write_options(tmp_path, options))
