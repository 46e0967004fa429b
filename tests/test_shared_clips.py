"""What is noticed about sets that are opened together: clips they share, and LQ that is not of the GT."""

import cv2
import pytest
from load_script import load_script
from options_files import write
from own_sets import sides
from synthetic import make_clips
from training import predictor_options, small_options
from videos import make_humaneva

from vsr import config
from vsr.data.sources import open_store


@pytest.fixture
def clips(tmp_path):
    return make_clips(tmp_path / "set", num_clips=2, num_frames=8, gt_size=(48, 64))


def overlap(tmp_path, options):
    return config.load(write(tmp_path, options)).warnings


def test_training_and_validation_on_the_same_clips_is_warned_of(clips, tmp_path, caplog):
    options = small_options(clips)
    (warning,) = overlap(tmp_path, options)
    text = "datasets.val shares frames with datasets.train, so that the network is measured on what it trains on: '"
    assert warning.startswith(text) and warning.count("'") == 4 * 2
    (tmp_path / "train.txt").write_text("000 8 (48,64,3)\n")
    (tmp_path / "val.txt").write_text("001 8 (48,64,3)\n")
    train, val = options["datasets"]["train"], options["datasets"]["val"]
    train["meta_info_file"], val["meta_info_file"] = str(tmp_path / "train.txt"), str(tmp_path / "val.txt")
    assert overlap(tmp_path, options) == []
    del val["meta_info_file"]
    (warning,) = overlap(tmp_path, options)
    assert sorted(warning.removeprefix(text[:-1]).split(", ")) == [f"'{side / '000'}'" for side in sides(clips)]
    # other frames of the same clip, the same frames by a link, without ground truth
    (tmp_path / "train.txt").write_text("000 4 (48,64,3)\n")
    (tmp_path / "val.txt").write_text("000 4 (48,64,3) 4\n")
    val["meta_info_file"] = str(tmp_path / "val.txt")
    assert overlap(tmp_path, options) == []
    (tmp_path / "val.txt").write_text("000 4 (48,64,3) 3\n")
    assert len(overlap(tmp_path, options)) == 1
    (tmp_path / "link").symlink_to(clips.lq)
    val["dataroot_lq"] = str(tmp_path / "link")
    del val["dataroot_gt"]
    assert len(overlap(tmp_path, options)) == 1


def test_lists_of_next_frame_data_with_any_names_are_compared(tmp_path):
    root = make_humaneva(tmp_path / "set")
    options = predictor_options(root)
    assert overlap(tmp_path, options) == []
    folders = sorted(folder.name for folder in (root / "image").iterdir())
    (tmp_path / "mine_a.csv").write_text("".join(f'"{name}"\n' for name in folders))
    (tmp_path / "mine_b.csv").write_text(f'"{folders[0]}"\n')
    options["datasets"]["train"]["list_file"] = str(tmp_path / "mine_a.csv")
    options["datasets"]["val"]["list_file"] = str(tmp_path / "mine_b.csv")
    (warning,) = overlap(tmp_path, options)
    assert warning.endswith(f"what it trains on: '{root / 'image' / folders[0]}'")


def test_a_pack_and_the_folder_it_was_made_of_are_the_same_clips(clips, tmp_path):
    pack = load_script("pack_frames")
    pack.main(["--from", str(clips.gt), "--to", str(tmp_path / "gt.lmdb")])
    pack.main(["--from", str(clips.lq), "--to", str(tmp_path / "lq.lmdb")])
    options = small_options(clips)
    options["datasets"]["train"] |= {"io_backend": {"type": "lmdb"}}
    options["datasets"]["train"] |= {f"dataroot_{side}": str(tmp_path / f"{side}.lmdb") for side in ("gt", "lq")}
    assert len(overlap(tmp_path, options)) == 1


def test_a_link_in_a_root_that_leads_back_ends_the_search(clips):
    (clips.gt / "000" / "back").symlink_to(clips.gt)
    assert open_store(clips.gt).clips() == ["000", "001"]


@pytest.mark.parametrize("said", [None, "BI", "BD"])
@pytest.mark.parametrize("is_bicubic", [True, False])
def test_whether_lq_is_bicubic_is_noted_and_warned_of_where_the_options_say_otherwise(
    clips, tmp_path, said, is_bicubic
):
    if not is_bicubic:
        for file in clips.lq.rglob("*.png"):
            frame = cv2.imread(str(clips.gt / file.relative_to(clips.lq)))
            cv2.imwrite(str(file), frame[1::4, 1::4])
    options = small_options(clips)
    options["datasets"]["train"]["degradation"] = said
    del options["datasets"]["val"]
    loaded = config.load(write(tmp_path, options))
    text = f"LQ frame '001/00000004' is {'' if is_bicubic else 'not '}MATLAB's bicubic of its GT frame"
    noted, warned = ([line for line in lines if text in line] for lines in (loaded.notes, loaded.warnings))
    is_wrong = said is not None and is_bicubic != (said == "BI")
    assert (len(noted), len(warned)) == ((0, 1) if is_wrong else (1, 0))
    assert loaded.datasets["train"].loader.degradation is None
