"""Testing from an options file: every frame restored and measured, whatever the size, with or without ground truth."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from synthetic import make_clips
from training import small_options, start, write_options

from vsr.data.degrade.imresize import imresize
from vsr.data.video.reader import decode
from vsr.evaluation import scores
from vsr.evaluation.restoring import calls
from vsr.metrics import calculate_psnr
from vsr.test import main
from vsr.train import main as train
from vsr.utils.distributed import take_place
from vsr.utils.errors import UserError
from vsr.utils.locks import sole_use


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a network trained for an iteration; its frames are no multiples of 4 × 4."""
    folder = tmp_path_factory.mktemp("trained")
    clips = make_clips(folder / "clips", num_clips=2, num_frames=4, gt_size=(60, 72))
    file = write_options(folder, small_options(clips, train__total_iter=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(["-opt", str(file)])
    return folder, clips, file


@pytest.fixture(autouse=True)
def work_in(trained, monkeypatch):
    monkeypatch.chdir(trained[0])


def test_every_frame_is_measured_beside_bicubic_and_bilinear(trained, capsys):
    folder, _, file = trained
    assert main(["-opt", str(file)]) == 0
    with (folder / "results" / "small" / "metrics.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 3 * 2 * 4  # methods × clips × frames
    assert {row["method"] for row in table} == {"bicubic", "bilinear", "network"}
    report = json.loads((folder / "results" / "small" / "metrics.json").read_text())
    assert report["datasets"]["clips"]["protocols"]["psnr"]["name"] == "clips-rgb"
    assert len(report["weights_sha256"]) == 64
    assert report["versions"]["torch"]
    printed = capsys.readouterr().out
    assert "bicubic" in printed and "comparison.png" in printed


def test_the_bicubic_row_is_matlabs_bicubic(trained):
    folder, clips, file = trained
    main(["-opt", str(file)])
    report = json.loads((folder / "results" / "small" / "metrics.json").read_text())
    expected = []
    for clip in clips.clips:
        values = []
        for name in sorted((clips.gt / clip).iterdir()):
            lq = cv2.imread(str(clips.lq / clip / name.name)).astype(np.float64)
            values.append(calculate_psnr(np.rint(imresize(lq, 4).clip(0, 255)), cv2.imread(str(name)), 0))
        expected.append(np.mean(values))
    means = report["datasets"]["clips"]["scores"]["bicubic"]
    assert means["mean"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert means["001"]["psnr"] == pytest.approx(expected[1], abs=1e-3)


def test_frames_are_saved_when_asked_for(trained):
    folder, _, file = trained
    main(["-opt", str(file), "--set", "val.save_img=true", "--set", "val.suffix=x4", "--set", "name=saved",
          "--weights", "experiments/small/models/net_g_1.pth"])  # fmt: skip
    saved = folder / "results" / "saved" / "visualization" / "clips" / "001" / "00000003_x4.png"
    assert cv2.imread(str(saved)).shape == (60, 72, 3)
    picture = cv2.imread(str(folder / "results" / "saved" / "visualization" / "clips_comparison.png"))
    assert picture.shape[1] > 4 * 60


def test_clips_are_saved_as_videos_when_asked_for(trained):
    folder, _, file = trained
    main(["-opt", str(file), "--set", "val.save_video=true", "--set", "val.save_img=true", "--set", "name=video",
          "--weights", "experiments/small/models/net_g_1.pth"])  # fmt: skip
    pictures = folder / "results" / "video" / "visualization" / "clips"
    for clip in ("000", "001"):
        images = [cv2.imread(str(image))[..., ::-1] for image in sorted((pictures / clip).glob("*.png"))]
        frames = [frame for frame, _ in decode(pictures / f"{clip}.mp4")]
        for frame, image in zip(frames, images, strict=True):
            assert np.abs(frame.astype(int) - image).mean() < 8  # H.264 and halved chroma


def test_frames_of_an_earlier_test_are_reported(trained, capsys):
    folder, _, file = trained
    command = ["-opt", str(file), "--set", "val.save_img=true", "--set", "name=again"]
    command += ["--weights", "experiments/small/models/net_g_1.pth"]
    main(command)
    assert "frames of earlier tests" not in capsys.readouterr().out
    old = folder / "results" / "again" / "visualization" / "clips" / "009" / "00000000.png"
    old.parent.mkdir()
    old.touch()
    main(command)
    assert "also holds 1 frame of earlier tests, such as 009/00000000.png" in capsys.readouterr().out


def test_the_former_results_are_kept_once_a_test(trained, tmp_path, capsys):
    _, _, file = trained
    tree = yaml.safe_load(file.read_text())
    tree["name"] = "kept"
    tree["datasets"]["test_second"] = {**tree["datasets"]["val"], "name": "second"}
    two_sets = write_options(tmp_path, tree)
    arguments = ["-opt", str(two_sets), "--weights", "experiments/small/models/net_g_1.pth"]
    results = Path("results/kept")
    main(arguments)
    assert not (results / "metrics.json.old").exists()
    former = {name: (results / name).read_bytes() for name in ("metrics.csv", "metrics.json")}
    capsys.readouterr()
    main([*arguments, "--set", "datasets.test_second.name=third"])
    assert {name: (results / f"{name}.old").read_bytes() for name in former} == former
    assert sorted(json.loads((results / "metrics.json").read_text())["datasets"]) == ["clips", "third"]
    assert capsys.readouterr().out.count("the former results are now results/kept/metrics.json.old") == 1


def test_without_ground_truth_frames_are_restored_and_saved_and_bicubic_only_shown(trained, monkeypatch):
    folder, clips, file = trained
    computed = []
    bicubic = scores.imresize
    monkeypatch.setattr(scores, "imresize", lambda *arguments: computed.append(1) or bicubic(*arguments))
    lq_only = f"{{name: mine, type: VideoTestDataset, dataroot_lq: '{clips.lq}', num_frame: 3}}"
    main(["-opt", str(file), "--set", f"datasets={{test: {lq_only}}}", "--set", "train=~", "--set", "name=mine",
          "--set", "val.report=false", "--weights", "experiments/small/models/net_g_1.pth"])  # fmt: skip
    assert len(list((folder / "results" / "mine" / "visualization" / "mine").rglob("*.png"))) == 8
    report = json.loads((folder / "results" / "mine" / "metrics.json").read_text())
    assert report["datasets"]["mine"]["scores"] == {}
    assert len(computed) == 1, "for the picture"


def test_a_second_test_of_one_name_is_refused(trained):
    with sole_use(Path("results/small")), pytest.raises(UserError, match=r"results/small is in use by process \d+"):
        main(["-opt", str(trained[2])])


@pytest.mark.parametrize("entry", ["test", "validation"])
def test_tests_and_validations_compute_in_full_float32_and_put_the_settings_back(trained, entry, monkeypatch):
    operators = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]
    operators += [torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul]
    former = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    settings = [operator.fp32_precision for operator in operators]
    seen = set()
    outputs = calls.Calls.outputs

    def note(*arguments):
        seen.update(operator.fp32_precision for operator in operators)
        return outputs(*arguments)

    monkeypatch.setattr(calls.Calls, "outputs", note)
    try:
        if entry == "test":
            main(["-opt", str(trained[2])])
        else:
            train(["-opt", str(trained[2]), "--set", "name=precise"])
        assert [operator.fp32_precision for operator in operators] == settings
    finally:
        torch.set_float32_matmul_precision(former)
    assert seen == {"ieee"}


def test_a_second_test_set_has_its_own_rows(trained):
    folder, clips, file = trained
    second = (
        f"{{name: again, type: VideoTestDataset, dataroot_lq: '{clips.lq}', dataroot_gt: '{clips.gt}', num_frame: 3}}"
    )
    main(["-opt", str(file), "--set", f"datasets.test_2={second}"])
    report = json.loads((folder / "results" / "small" / "metrics.json").read_text())
    assert report["datasets"]["again"]["scores"] == report["datasets"]["clips"]["scores"]


def test_missing_weights_are_told(trained):
    _, _, file = trained
    with pytest.raises(UserError, match="train first"):
        main(["-opt", str(file), "--set", "name=untrained"])
    with pytest.raises(UserError, match=r"path\.pretrain_network_g is not given"):
        main(["-opt", str(file), "--set", "train=~", "--set", "name=untrained"])


def test_a_metric_that_fails_ends_a_test_with_workers(trained):
    """Which would be waited for as long as anything, such as a traceback, still refers to them."""
    folder, _, file = trained
    crop = ["--set", "val.metrics.psnr.crop_border=40", "--set", "datasets.val.num_worker_per_gpu=1"]
    model = ["--set", "name=fails", "--weights", "experiments/small/models/net_g_1.pth"]
    process = start(folder, file, *crop, *model, entry="test")
    text, _ = process.communicate()
    assert process.returncode == 2 and "cannot be measured: crop_border 40 leaves nothing" in text


def test_frames_too_small_to_be_measured_are_told(trained):
    _, _, file = trained
    with pytest.raises(UserError, match=r"000/00000000 cannot be measured: crop_border 30 leaves nothing"):
        main(["-opt", str(file), "--set", "val.metrics.psnr.crop_border=30"])


def test_ground_truth_of_another_size_is_told(trained, tmp_path):
    _, _, file = trained
    other = make_clips(tmp_path, num_clips=2, num_frames=4, gt_size=(48, 72))
    with pytest.raises(UserError, match="scale"):
        main(["-opt", str(file), "--set", f"datasets.val.dataroot_gt={other.gt}"])


def test_weights_that_lack_a_part_are_no_result(trained, tmp_path):
    """Also where a training may begin with what fits: the numbers would be those of a partly random network."""
    folder, _, file = trained
    saved = torch.load(folder / "experiments/small/models/net_g_1.pth", weights_only=True)
    torch.save({"params": {k: v for k, v in saved["params"].items() if k != "conv_last.bias"}}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"part.pth does not fit EDVR: .*missing: conv_last.bias"):
        main(["-opt", str(file), "--weights", str(tmp_path / "part.pth"), "--set", "path.strict_load_g=false"])


def test_weights_of_another_width_are_told_by_their_shapes(trained):
    weights = ["--weights", "experiments/small/models/net_g_1.pth", "--set", "network_g.num_feat=16"]
    with pytest.raises(UserError, match=r"conv_first.weight is \(8, 3, 3, 3\), here \(16, 3, 3, 3\)"):
        main(["-opt", str(trained[2]), *weights])


def test_weights_that_are_not_finite_are_told(trained, tmp_path):
    folder, _, file = trained
    saved = torch.load(folder / "experiments/small/models/net_g_1.pth", weights_only=True)
    saved["params"]["conv_last.bias"][0] = float("nan")
    torch.save({"params": saved["params"]}, tmp_path / "nan.pth")
    with pytest.raises(UserError, match="network gives numbers that are not finite"):
        main(["-opt", str(file), "--weights", str(tmp_path / "nan.pth")])


def test_a_frame_that_cannot_be_read_is_named_and_keeps_the_sets_before_it(trained, tmp_path):
    """Also the frame in the middle, which is the one to be shown."""
    _, clips, file = trained
    for source, target in ((clips.gt, "gt"), (clips.lq, "lq")):
        shutil.copytree(source, tmp_path / target)
    frame = tmp_path / "lq" / "001" / "00000000.png"
    frame.write_bytes(frame.read_bytes()[:100])
    entry = {"type": "VideoTestDataset", "name": "broken", "num_frame": 3, "num_worker_per_gpu": 0}
    entry |= {"dataroot_gt": str(tmp_path / "gt"), "dataroot_lq": str(tmp_path / "lq")}
    overrides = ["name=kept", f"datasets.test={yaml.safe_dump(entry, default_flow_style=True, width=9999).strip()}"]
    with pytest.raises(UserError, match=r"00000000\.png is truncated"):
        weights = "experiments/small/models/net_g_1.pth"
        main(["-opt", str(file), "--weights", weights, *(part for o in overrides for part in ("--set", o))])
    assert list(json.loads(Path("results/kept/metrics.json").read_text())["datasets"]) == ["clips"]


def test_the_entry_is_that_of_the_pretrained_weights_and_not_of_those_trained_from_them(trained, tmp_path):
    folder, clips, _ = trained
    pretrained = folder / "experiments/small/models/net_g_1.pth"
    options = small_options(clips, name="tuned", train__total_iter=1, train__ema_decay=0.0)
    options["path"] = {"pretrain_network_g": str(pretrained), "param_key_g": "params_ema"}
    file = write_options(tmp_path, options)
    assert train(["-opt", str(file)]) == 0
    assert main(["-opt", str(file)]) == 0
    with pytest.raises(UserError, match=r"has no entry 'params_ema' \(path.param_key_g\)"):
        main(["-opt", str(file), "--weights", "experiments/tuned/models/net_g_1.pth"])


def test_a_black_frame_makes_infinite_means_that_are_told_and_valid_json(trained, tmp_path, capsys):
    """Every method restores it exactly, if the network's weights are zero."""
    _, clips, file = trained
    for source, target in ((clips.gt, "gt"), (clips.lq, "lq")):
        shutil.copytree(source, tmp_path / target)
        for frame in (tmp_path / target / "000").iterdir():
            cv2.imwrite(str(frame), 0 * cv2.imread(str(frame)))
    roots = [f"datasets.val.dataroot_{kind}={tmp_path / kind}" for kind in ("gt", "lq")]
    weights = ["--weights", "experiments/small/models/net_g_1.pth", "--set", "name=black"]
    assert main(["-opt", str(file), *weights, *(part for root in roots for part in ("--set", root))]) == 0
    report = json.loads(Path("results/black/metrics.json").read_text(), parse_constant=pytest.fail)
    means = report["datasets"]["clips"]["scores"]["bicubic"]
    assert means["mean"]["psnr"] is None and means["000"]["psnr"] is None and means["001"]["psnr"] > 10
    assert "frames equal the truth: their PSNR and its mean are infinite: 000/" in capsys.readouterr().out


def test_processes_meet_as_the_options_say(trained, monkeypatch):
    given = []
    monkeypatch.setattr("vsr.test.take_place", lambda *arguments: given.append(arguments) or take_place(0))
    assert main(["-opt", str(trained[2]), "--set", "dist_params.port=12345", "--set", "dist_params.backend=gloo"]) == 0
    assert given == [(0, "gloo", 12345)]
