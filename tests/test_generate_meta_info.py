import pytest
from load_script import ROOT, exit_code, load_script
from synthetic import make_clips

from vsr.data import REDSDataset

script = load_script("generate_meta_info")


def test_committed_lists_are_what_the_script_writes(tmp_path):
    script.main(["--to", str(tmp_path)])
    for name in script.REDS_LISTS:
        assert (tmp_path / name).read_bytes() == (ROOT / "meta_info" / name).read_bytes()


def test_reds_lists_hold_the_published_clips():
    def lines(name):
        text = (ROOT / "meta_info" / name).read_bytes().decode()
        assert text.endswith("\n")
        assert "\r" not in text
        return text.splitlines()

    assert lines("meta_info_REDS_GT.txt") == [f"{clip:03d} 100 (720,1280,3)" for clip in range(270)]
    assert lines("meta_info_REDS4_test_GT.txt") == [f"{clip} 100 (720,1280,3)" for clip in ("000", "011", "015", "020")]
    assert lines("meta_info_REDS4_test10_GT.txt") == [
        f"{clip} 10 (720,1280,3)" for clip in ("000", "011", "015", "020")
    ]
    official4 = [f"{clip} 100 (720,1280,3)" for clip in (240, 241, 246, 257)]
    assert lines("meta_info_REDSofficial4_test_GT.txt") == official4
    official = [f"{clip} 100 (720,1280,3)" for clip in range(240, 270)]
    assert lines("meta_info_REDSval_official_test_GT.txt") == official


def test_any_folder_is_listed(tmp_path):
    made = make_clips(tmp_path / "set", num_clips=2, num_frames=3, gt_size=(16, 24))
    script.main(["--from", str(made.gt), "--to", str(tmp_path / "new" / "list.txt")])
    assert (tmp_path / "new" / "list.txt").read_text() == "000 3 (16,24,3)\n001 3 (16,24,3)\n"
    script.main(["--from", str(made.gt), "--to", str(tmp_path / "list.txt"), "--first", "2"])
    assert (tmp_path / "list.txt").read_text() == "000 2 (16,24,3)\n001 2 (16,24,3)\n"


def test_frames_that_are_counted_from_1_are_listed_as_training_reads_them(tmp_path, capsys):
    made = make_clips(tmp_path / "set", num_clips=1, num_frames=6, gt_size=(64, 64))
    for file in sorted((tmp_path / "set").rglob("*.png"), reverse=True):
        file.rename(file.with_name(f"{int(file.stem) + 1:08d}.png"))
    assert len(REDSDataset(made.gt, made.lq, made.meta, "none", gt_size=32)) == 6
    script.main(["--from", str(made.gt), "--to", str(tmp_path / "list.txt")])
    assert (tmp_path / "list.txt").read_text() == "000 6 (64,64,3) 1\n"
    assert len(REDSDataset(made.gt, made.lq, tmp_path / "list.txt", "none", gt_size=32)) == 6


def test_vimeo_s_own_lists_are_converted(tmp_path):
    (tmp_path / "sep_trainlist.txt").write_text("00001/0001\n00096/0936\n\n")
    script.main(["--vimeo", str(tmp_path / "sep_trainlist.txt"), "--to", str(tmp_path / "list.txt")])
    assert (tmp_path / "list.txt").read_text() == "00001/0001 7 (256,448,3)\n00096/0936 7 (256,448,3)\n"


def test_dry_run_writes_nothing(tmp_path, capsys):
    script.main(["--to", str(tmp_path / "lists"), "--dry-run"])
    assert not (tmp_path / "lists").exists()
    assert "269 100 (720,1280,3)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "holds no images, and no folders of images"),
        (lambda folder: make_clips(folder, 1, 1, (4, 4), 1).gt.rename(folder / "my clips"), "rename the folder"),
    ],
)
def test_what_cannot_be_listed_is_named(tmp_path, make, message, capsys):
    make(tmp_path / "set")
    assert exit_code(script, "--from", tmp_path / "set", "--to", tmp_path / "list.txt") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "list.txt").exists()


@pytest.mark.parametrize("first", ["0", "-3", "x"])
def test_a_clip_has_at_least_one_frame(tmp_path, capsys, first):
    made = make_clips(tmp_path / "set", num_clips=1, num_frames=3, gt_size=(16, 24))
    assert exit_code(script, "--from", made.gt, "--to", tmp_path / "list.txt", f"--first={first}") == 2
    assert f"argument --first: '{first}' is not a whole number of at least 1" in capsys.readouterr().err
    assert not (tmp_path / "list.txt").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "argument --vimeo: there is no file"),
        (b"00001/0001\nclip one\n", "is not a list of Vimeo-90K: expected names like 00001/0001, got 'clip'"),
        (b"00001/0001 7 (256,448,3)\n", "is not a list of Vimeo-90K"),
        ("00001/0001\n".encode("utf-16"), "is not a text file in UTF-8"),
        (b"\n", "lists nothing"),
    ],
)
def test_what_is_no_list_of_vimeo_is_named(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    assert exit_code(script, "--vimeo", tmp_path / "list", "--to", tmp_path / "meta.txt") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "meta.txt").exists()


def test_one_source_at_a_time(tmp_path, capsys):
    (tmp_path / "list").write_text("00001/0001\n")
    assert exit_code(script, "--from", tmp_path, "--vimeo", tmp_path / "list", "--to", tmp_path / "meta.txt") == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_an_lmdb_is_listed_like_its_folder(tmp_path):
    made = make_clips(tmp_path / "set", num_clips=2, num_frames=3, gt_size=(16, 24))
    assert exit_code(load_script("pack_frames"), "--from", made.gt, "--to", tmp_path / "gt.lmdb") == 0
    script.main(["--from", str(tmp_path / "gt.lmdb"), "--to", str(tmp_path / "list.txt")])
    assert (tmp_path / "list.txt").read_text() == made.meta.read_text()


def test_a_folder_to_write_the_list_to_is_named(tmp_path, capsys):
    made = make_clips(tmp_path / "set", num_clips=1, num_frames=3, gt_size=(16, 24))
    assert exit_code(script, "--from", made.gt, "--to", tmp_path) == 2
    assert f"--to '{tmp_path}' is a folder; name the file to write" in capsys.readouterr().err
