import shutil
import zipfile

import cv2
import numpy as np
import pytest
from load_script import another_preparation, exit_code, load_script

script = load_script("prepare_reds")

FRAMES, TRAIN, VAL = 3, 4, 2
GT, LQ = (8, 12), (2, 3)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(script, "NUM_FRAMES", FRAMES)
    monkeypatch.setattr(script, "NUM_TRAIN", TRAIN)
    monkeypatch.setattr(script, "NUM_VAL", VAL)
    monkeypatch.setattr(script, "SIDES", {"train_sharp": GT, "train_sharp_bicubic/X4": LQ})


TREES = {
    "official": {
        "train_sharp": "train/train_sharp",
        "train_sharp_bicubic": "train/train_sharp_bicubic/X4",
        "val_sharp": "val/val_sharp",
        "val_sharp_bicubic": "val/val_sharp_bicubic/X4",
    },
    "named twice": {
        "train_sharp": "train_sharp/train_sharp",
        "train_sharp_bicubic": "train_sharp_bicubic/train_sharp_bicubic/X4",
        "val_sharp": "val_sharp/val/val_sharp",
        "val_sharp_bicubic": "val_sharp_bicubic/val_sharp_bicubic",
    },
    "named twice, no X4": {
        "train_sharp": "train_sharp/train/train_sharp",
        "train_sharp_bicubic": "train_sharp_bicubic/train_sharp_bicubic",
        "val_sharp": "val_sharp/val_sharp",
        "val_sharp_bicubic": "val_sharp_bicubic/val/val_sharp_bicubic",
    },
    "official, no X4": {
        "train_sharp": "train/train_sharp",
        "train_sharp_bicubic": "train/train_sharp_bicubic",
        "val_sharp": "val/val_sharp",
        "val_sharp_bicubic": "val/val_sharp_bicubic",
    },
    "flat": {
        "train_sharp": "train_sharp",
        "train_sharp_bicubic": "train_sharp_bicubic/X4",
        "val_sharp": "val_sharp",
        "val_sharp_bicubic": "val_sharp_bicubic",
    },
}


def make_downloads(root, tree="official"):
    """Writes the four parts; a frame's grey level says which part, clip and frame it is."""
    for number, (part, folder) in enumerate(TREES[tree].items()):
        size = LQ if part.endswith("bicubic") else GT
        for clip in range(TRAIN if part.startswith("train") else VAL):
            (root / folder / f"{clip:03d}").mkdir(parents=True)
            for frame in range(FRAMES):
                level = 60 * number + 10 * clip + frame
                cv2.imwrite(str(root / folder / f"{clip:03d}" / f"{frame:08d}.png"), np.full(size, level, np.uint8))
    return root


def zip_downloads(root, target, num_parts=1, folder="", tree="official"):
    """Packs the parts as the site does, or train_sharp in several files, as one mirror does; clips may be cut in two.

    Args:
        root: the parts, in the official tree.
        target: where the zips go, in the folder that ``folder`` gives: {top} is train or val, {part} the part's name.
        num_parts: files of train_sharp.
        folder: see ``target``.
        tree: the tree inside the zips.
    """
    for part, official in TREES["official"].items():
        files = sorted((root / official).rglob("*.png"))
        count = num_parts if part == "train_sharp" else 1
        for number, share in enumerate(np.array_split(np.array(files), count), start=1):
            name = f"{part}_part{number}.zip" if count > 1 else f"{part}.zip"
            file = target / folder.format(top=part.split("_")[0], part=part) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in share:
                    archive.write(path, f"{TREES[tree][part]}/{path.relative_to(root / official)}")
    return target


def run(source, target, *arguments):
    script.main(["--from", str(source), "--to", str(target), "--threads", "2", *arguments])


def levels(target):
    """Returns {(side, clip): first frame's grey level}."""
    return {
        (side, clip.name): int(cv2.imread(str(clip / "00000000.png"))[0, 0, 0])
        for side in script.SIDES
        for clip in (target / side).iterdir()
    }


EXPECTED = {
    **{("train_sharp", f"{k:03d}"): 10 * k for k in range(TRAIN)},
    **{("train_sharp_bicubic/X4", f"{k:03d}"): 60 + 10 * k for k in range(TRAIN)},
    **{("train_sharp", f"{TRAIN + k:03d}"): 120 + 10 * k for k in range(VAL)},
    **{("train_sharp_bicubic/X4", f"{TRAIN + k:03d}"): 180 + 10 * k for k in range(VAL)},
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("mode", ["link", "move", "copy"])
def test_every_known_tree_ends_in_the_one_layout(tmp_path, tree, mode, capsys):
    source = make_downloads(tmp_path / "in", tree)
    run(source, tmp_path / "REDS", "--mode", mode)
    assert levels(tmp_path / "REDS") == EXPECTED
    assert f"is complete: {TRAIN + VAL} clips x {FRAMES} frames" in capsys.readouterr().out
    is_link = (tmp_path / "REDS" / "train_sharp" / "000").is_symlink()
    assert is_link == (mode == "link")
    remain = len(list(source.rglob("*.png")))
    assert remain == (0 if mode == "move" else 2 * FRAMES * (TRAIN + VAL))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("folder", ["", "{top}", "{part}"])
@pytest.mark.parametrize("num_parts", [1, 3])
def test_zips_are_unpacked_into_the_layout(tmp_path, num_parts, folder, tree):
    downloads = zip_downloads(make_downloads(tmp_path / "in"), tmp_path / "zips", num_parts, folder, tree)
    for other in (
        "train_blur",
        "train_blur_comp",
        "train_sharp_blur_bicubic",
        "test_sharp_bicubic",
        "val_blur_bicubic",
    ):
        with zipfile.ZipFile(downloads / f"{other}.zip", "w") as archive:  # other parts of REDS are left alone
            archive.writestr(f"{other.split('_')[0]}/{other}/000/00000000.png", b"another picture")
    run(downloads, tmp_path / "REDS")
    assert levels(tmp_path / "REDS") == EXPECTED
    assert not list((tmp_path / "REDS").rglob(".*"))


def test_zips_give_the_clips_that_were_not_unpacked_whole(tmp_path, capsys):
    source = make_downloads(tmp_path / "in")
    zip_downloads(source, source)
    shutil.rmtree(source / "train" / "train_sharp" / "003")
    (source / "val" / "val_sharp" / "001" / "00000002.png").unlink()
    shutil.rmtree(source / "val" / "val_sharp_bicubic")
    run(source, tmp_path / "REDS")
    assert levels(tmp_path / "REDS") == EXPECTED
    output = capsys.readouterr().out
    assert "train_sharp: 4 of 4 clips, 3 to link and 1 to unpack, to clip 000 and up" in output
    assert "val_sharp_bicubic: 2 of 2 clips, 0 to link and 2 to unpack, to clip 004 and up" in output


def test_a_truncated_zip_beside_whole_folders_does_not_matter(tmp_path):
    source = make_downloads(tmp_path / "in")
    (source / "train_sharp.zip").write_bytes(b"PK")
    run(source, tmp_path / "REDS")
    assert levels(tmp_path / "REDS") == EXPECTED


def test_a_set_that_another_tool_has_regrouped_is_a_known_tree(tmp_path):
    regrouped = make_downloads(tmp_path / "REDS", "flat")
    run(regrouped, regrouped, "--mode", "move")
    for leftover in ("val_sharp", "val_sharp_bicubic"):  # mmagic leaves them empty
        assert list((regrouped / leftover).iterdir()) == []
    run(regrouped, tmp_path / "linked")
    assert levels(tmp_path / "linked") == EXPECTED


def test_in_place_only_the_validation_clips_are_added(tmp_path):
    root = make_downloads(tmp_path / "REDS", "flat")
    run(root, root, "--mode", "move")
    assert levels(root) == EXPECTED


def test_a_second_run_changes_nothing(tmp_path, capsys):
    source = make_downloads(tmp_path / "in")
    run(source, tmp_path / "REDS", "--mode", "copy")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "REDS").rglob("*")}
    shutil.rmtree(source)
    source.mkdir()
    run(source, tmp_path / "REDS")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "REDS").rglob("*")} == before
    assert "val_sharp: all 2 clips are in place" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["link", "move", "copy"])
def test_a_stopped_run_goes_on(tmp_path, monkeypatch, mode):
    source = make_downloads(tmp_path / "in")
    place, calls = script.place, []

    def place_five(*arguments):
        calls.append(arguments)
        if len(calls) > 5:
            raise KeyboardInterrupt
        place(*arguments)

    monkeypatch.setattr(script, "place", place_five)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "REDS", "--mode", mode)
    monkeypatch.setattr(script, "place", place)
    half = tmp_path / "REDS" / "train_sharp_bicubic" / "X4" / ".003.partial"  # a copy that was killed
    half.mkdir(parents=True, exist_ok=True)
    (half / "00000000.png").write_bytes(b"half")
    run(source, tmp_path / "REDS", "--mode", mode)
    assert levels(tmp_path / "REDS") == EXPECTED


def fails(capsys, *arguments):
    """Returns the message of a run that must fail."""
    assert exit_code(script, *arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("mode", ["link", "move", "copy"])
def test_links_whose_folders_have_gone_are_replaced(tmp_path, mode):
    run(make_downloads(tmp_path / "before"), tmp_path / "REDS")
    (tmp_path / "before").rename(tmp_path / "now")
    run(tmp_path / "now", tmp_path / "REDS", "--mode", mode)
    assert levels(tmp_path / "REDS") == EXPECTED


def test_a_half_merged_tree_is_refused(tmp_path, capsys):
    source = make_downloads(tmp_path / "in")
    shutil.copytree(source / "val" / "val_sharp" / "000", tmp_path / "REDS" / "train_sharp" / "004")
    (tmp_path / "REDS" / "train_sharp" / "004" / "00000002.png").unlink()
    message = fails(capsys, "--from", source, "--to", tmp_path / "REDS")
    assert "train_sharp/004' holds 2 frames instead of 3: a copy was stopped half-way" in message
    assert not (tmp_path / "REDS" / "train_sharp" / "000").exists()


def test_missing_parts_and_clips_are_named(tmp_path, capsys):
    source = make_downloads(tmp_path / "in")
    shutil.rmtree(source / "train" / "train_sharp_bicubic" / "X4" / "002")
    message = fails(capsys, "--from", source, "--to", tmp_path / "REDS")
    assert "train_sharp_bicubic in" in message
    assert "lacks 1 of 4 clips of 3 frames: 002" in message
    shutil.rmtree(source / "val" / "val_sharp_bicubic")
    whole = source / "train" / "train_sharp_bicubic" / "X4"
    shutil.copytree(whole / "001", whole / "002")
    message = fails(capsys, "--from", source, "--to", tmp_path / "REDS")
    assert "holds neither val_sharp_bicubic.zip nor a folder val_sharp_bicubic" in message
    assert "seungjunnah.github.io" in message
    assert not (tmp_path / "REDS").exists()


def test_a_truncated_zip_is_named(tmp_path, capsys):
    downloads = zip_downloads(make_downloads(tmp_path / "in"), tmp_path / "zips")
    data = (downloads / "val_sharp.zip").read_bytes()
    (downloads / "val_sharp.zip").write_bytes(data[: len(data) // 2])
    message = fails(capsys, "--from", downloads, "--to", tmp_path / "REDS")
    assert "val_sharp.zip' is damaged or not complete" in message


def test_a_damaged_member_is_named_and_nothing_half_unpacked_stays_under_its_name(tmp_path, capsys):
    downloads = zip_downloads(make_downloads(tmp_path / "in"), tmp_path / "zips")
    file = downloads / "val_sharp.zip"
    with zipfile.ZipFile(file) as archive:
        info = archive.infolist()[-1]
    data = bytearray(file.read_bytes())
    start = info.header_offset + 30 + len(info.filename)
    data[start : start + info.compress_size] = bytes(255 - byte for byte in data[start : start + info.compress_size])
    file.write_bytes(data)
    message = fails(capsys, "--from", downloads, "--to", tmp_path / "REDS", "--threads", "1")
    assert f"val_sharp.zip' is damaged in {info.filename}" in message
    assert not (tmp_path / "REDS" / "train_sharp" / f"{TRAIN + VAL - 1:03d}").exists()
    zip_downloads(tmp_path / "in", tmp_path / "again")
    run(tmp_path / "again", tmp_path / "REDS")
    assert levels(tmp_path / "REDS") == EXPECTED


def test_the_check_names_what_is_wrong(tmp_path, capsys):
    target = tmp_path / "REDS"
    run(make_downloads(tmp_path / "in"), target, "--mode", "copy")
    (target / "train_sharp" / "001" / "00000001.png").unlink()
    (target / "train_sharp" / "002" / "00000003.png").write_bytes(b"")
    cv2.imwrite(str(target / "train_sharp" / "003" / "00000000.png"), np.zeros(LQ, np.uint8))
    (target / "train_sharp_bicubic" / "X4" / "000" / "00000002.png").write_bytes(b"not a PNG")
    message = fails(capsys, "--to", target, "--check")
    for part in (
        "4 problems",
        "001' lacks 1 of 3 frames: 00000001.png;",
        "002' holds 1 frames too many: 00000003.png;",
        "003/00000000.png' is 2 x 3, expected 8 x 12",
        "000/00000002.png' is no PNG",
    ):
        assert part in message


def test_files_that_are_no_frames_do_not_matter(tmp_path, capsys):
    target = tmp_path / "REDS"
    run(make_downloads(tmp_path / "in"), target, "--mode", "copy")
    for name in (".DS_Store", "Thumbs.db", "._00000000.png"):
        (target / "train_sharp" / "001" / name).write_bytes(b"")
    run(tmp_path / "in", target)
    assert f"is complete: {TRAIN + VAL} clips" in capsys.readouterr().out


def test_a_full_disk_is_seen_before_it_is(tmp_path, capsys, monkeypatch):
    downloads = zip_downloads(make_downloads(tmp_path / "in"), tmp_path / "zips")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 1000, 10))
    message = fails(capsys, "--from", downloads, "--to", tmp_path / "REDS")
    assert "kB, but 0.0 kB are free: make room" in message
    assert not (tmp_path / "REDS").exists()


def test_a_dry_run_changes_nothing(tmp_path, capsys):
    source = make_downloads(tmp_path / "in")
    run(source, tmp_path / "REDS", "--dry-run")
    assert not (tmp_path / "REDS").exists()
    assert "val_sharp: 2 of 2 clips, 2 to link and 0 to unpack, to clip 004 and up" in capsys.readouterr().out


def test_a_second_preparation_waits_for_the_first(tmp_path, capsys):
    source = make_downloads(tmp_path / "in")
    with another_preparation(tmp_path / "REDS"):
        message = fails(capsys, "--from", source, "--to", tmp_path / "REDS")
    assert "REDS is being prepared by process" in message
    assert not (tmp_path / "REDS").exists()
