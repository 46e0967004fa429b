import cv2
import numpy as np
import pytest
from load_script import another_preparation, exit_code, load_script
from synthetic import make_clips

from vsr.data.degrade.imresize import imresize
from vsr.data.sources.base import DEGRADATION_FILE

script = load_script("generate_lq")


@pytest.fixture
def gt(tmp_path):
    return make_clips(tmp_path / "set", num_clips=2, num_frames=3, gt_size=(24, 48)).gt


def read(file):
    return cv2.imread(str(file))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bi_is_matlab_s_bicubic(gt, tmp_path, scale):
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq"), "--scale", str(scale)])
    for file in gt.rglob("*.png"):
        expected = imresize(read(file), 1 / scale)
        np.testing.assert_array_equal(read(tmp_path / "lq" / file.relative_to(gt)), expected)


def bd_reference(frame):
    """fspecial('gaussian', 12, 1.6), imfilter(..., 'replicate'), frame(2:4:end-2, 2:4:end-2, :), pixel by pixel."""
    h, w, _ = frame.shape
    places = np.arange(12) - 5.5
    kernel = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.6**2))
    kernel /= kernel.sum()
    out = np.zeros((h // 4, w // 4, 3))
    for i in range(h // 4):
        for j in range(w // 4):
            for dy in range(12):
                for dx in range(12):
                    # 1-based: the kernel's element (6, 6) lies on the pixel (2 + 4i, 2 + 4j).
                    y = min(max(2 + 4 * i + dy + 1 - 6, 1), h) - 1
                    x = min(max(2 + 4 * j + dx + 1 - 6, 1), w) - 1
                    out[i, j] += kernel[dy, dx] * frame[y, x]
    return np.floor(out + 0.5)


def test_bd_is_the_gaussian_of_the_published_matlab_code(gt, tmp_path):
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq"), "--degradation", "BD"])
    file = gt / "001" / "00000002.png"
    np.testing.assert_array_equal(read(tmp_path / "lq" / "001" / "00000002.png"), bd_reference(read(file)))


def test_only_missing_frames_are_made(gt, tmp_path, capsys):
    arguments = ["--from", str(gt), "--to", str(tmp_path / "lq")]
    script.main(arguments)
    files = sorted((tmp_path / "lq").rglob("*.png"))
    before = [file.stat().st_mtime_ns for file in files]
    files[2].unlink()
    script.main(arguments)
    after = [file.stat().st_mtime_ns for file in files]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, True, True, True]
    assert "6 frames in 2 clips, 5 are there, 1 to make" in capsys.readouterr().out


def test_a_dry_run_makes_nothing(gt, tmp_path):
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq"), "--dry-run"])
    assert not (tmp_path / "lq").exists()


def fails(capsys, *arguments):
    assert exit_code(script, *arguments) == 2
    return capsys.readouterr().err


def test_bad_frames_are_named_or_left_out(gt, tmp_path, capsys):
    bad = gt / "000" / "00000001.png"
    bad.write_bytes(bad.read_bytes()[:100])
    assert "00000001.png is truncated" in fails(capsys, "--from", gt, "--to", tmp_path / "lq")
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq"), "--on-bad-frame", "skip"])
    output = capsys.readouterr().out
    assert "left out: " in output
    assert "left out 1" in output
    assert len(list((tmp_path / "lq").rglob("*.png"))) == 5


def test_what_cannot_be_done_is_named(gt, tmp_path, capsys):
    assert "does not exist" in fails(capsys, "--from", tmp_path / "none", "--to", tmp_path / "lq")
    assert "BD is defined for --scale 4" in fails(
        capsys, "--from", gt, "--to", "x", "--degradation", "BD", "--scale", "2"
    )


@pytest.mark.parametrize("kind", ["BI", "BD"])
def test_sides_that_are_no_multiple_of_the_scale_are_cropped_and_said_once(gt, tmp_path, capsys, kind):
    frames = {file: cv2.imread(str(file)) for file in gt.rglob("*.png")}
    for file, frame in frames.items():
        cv2.imwrite(str(file), cv2.copyMakeBorder(frame, 0, 1, 0, 3, cv2.BORDER_CONSTANT, value=(0, 0, 255)))
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq"), "--degradation", kind])
    h, w = next(iter(frames.values())).shape[:2]
    said = f"GT of 2 clips is cropped at the bottom and right: '000' from {h + 1} x {w + 3} to {h} x {w}, for scale 4"
    assert capsys.readouterr().out.count(said) == 1
    degrade = script.degradation(kind, 4)
    for file, frame in frames.items():
        made = cv2.imread(str(tmp_path / "lq" / file.relative_to(gt)))
        np.testing.assert_array_equal(made, degrade(frame))
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq"), "--degradation", kind])
    assert "0 to make" in capsys.readouterr().out


@pytest.mark.parametrize("other", [["--scale", "3"], ["--degradation", "BD"]])
@pytest.mark.parametrize("missing", [0, 1])
def test_frames_of_another_scale_or_degradation_are_refused_not_kept(gt, tmp_path, capsys, other, missing):
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq")])
    for file in sorted((tmp_path / "lq").rglob("*.png"))[:missing]:
        file.unlink()
    name = {"3": "BI x3", "BD": "BD x4"}[other[1]]
    error = fails(capsys, "--from", gt, "--to", tmp_path / "lq", *other)
    assert f"lq' holds frames made with BI x4, not {name}; remove it, or give another --to" in error
    assert len(list((tmp_path / "lq").rglob("*.png"))) == 6 - missing


def test_frames_of_another_scale_without_a_stamp_are_refused_and_others_get_none(gt, tmp_path, capsys):
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq")])
    (tmp_path / "lq" / DEGRADATION_FILE).unlink()
    error = fails(capsys, "--from", gt, "--to", tmp_path / "lq", "--scale", "3")
    assert "000/00000000.png' is there already, 6 x 12, but BI x3 makes 8 x 16 of 24 x 48" in error
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq")])
    assert not (tmp_path / "lq" / DEGRADATION_FILE).exists()


@pytest.mark.parametrize("below", ["", "lq", "000/lq"])
def test_lq_frames_inside_the_gt_are_refused(gt, capsys, below):
    assert "lies in --from" in fails(capsys, "--from", gt, "--to", gt / below)
    assert not (gt / "lq").exists()


def test_arguments_that_cannot_be_are_named(gt, tmp_path, capsys):
    (tmp_path / "file").touch()
    error = fails(capsys, "--from", gt, "--to", tmp_path / "file")
    assert f"argument --to: '{tmp_path / 'file'}' is a file; name a folder" in error
    assert "argument --threads: '0' is not a whole" in fails(capsys, "--from", gt, "--to", "x", "--threads", "0")


def test_a_second_preparation_waits_for_the_first(gt, tmp_path, capsys):
    with another_preparation(tmp_path / "lq"):
        assert exit_code(script, "--from", gt, "--to", tmp_path / "lq") == 2
    assert "lq is being prepared by process" in capsys.readouterr().err
    assert not (tmp_path / "lq").exists()


def test_a_clip_that_is_listed_and_not_there_is_told(gt, tmp_path, capsys):
    (tmp_path / "meta.txt").write_text("000 3\n007 3\n")
    error = fails(capsys, "--from", gt, "--to", tmp_path / "lq", "--meta", tmp_path / "meta.txt")
    assert f"'{gt}' has no frames of 1 of the 2 clips that '{tmp_path / 'meta.txt'}' lists: 007; is it the" in error
    assert not (tmp_path / "lq").exists()


def test_what_a_killed_run_has_left_behind_is_removed(gt, tmp_path):
    left = tmp_path / "lq" / "000" / ".00000000.png.4711.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq"), "--dry-run"])
    assert left.exists()
    script.main(["--from", str(gt), "--to", str(tmp_path / "lq")])
    assert not left.exists()


def test_the_frames_of_an_lmdb_are_degraded_like_those_of_a_folder(gt, tmp_path):
    assert exit_code(load_script("pack_frames"), "--from", gt, "--to", tmp_path / "gt.lmdb") == 0
    for source in (gt, tmp_path / "gt.lmdb"):
        script.main(["--from", str(source), "--to", str(tmp_path / f"of {source.name}")])
    for file in (tmp_path / f"of {gt.name}").rglob("*.png"):
        other = tmp_path / "of gt.lmdb" / file.relative_to(tmp_path / f"of {gt.name}")
        np.testing.assert_array_equal(read(file), read(other))
