import os
import pickle
import shutil

import cv2
import lmdb
import numpy as np
import pytest
from processes import fresh
from synthetic import make_clips
from torch.utils.data import DataLoader, Dataset

from vsr.data.sources import open_store
from vsr.data.sources.base import Crop, IOBackend, natural_order


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips"), num_clips=2, num_frames=3, gt_size=(32, 40))


def make_lmdb(folder, images, spelling="{}", meta_info=True):
    """Writes {key: bytes} as BasicSR's create_lmdb.py does."""
    with lmdb.open(str(folder), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for key, value in images.items():
            transaction.put(spelling.format(key).encode(), value)
    if meta_info:
        lines = (f"{spelling.format(key)}.png (32,40,3) 1\n" for key in images)
        (folder / "meta_info.txt").write_text("".join(lines))
    return open_store(folder, IOBackend("lmdb"))


def png_bytes(clips):
    files = sorted(clips.gt.glob("*/*.png"))
    return {f"{file.parent.name}/{file.stem}": file.read_bytes() for file in files}


@pytest.fixture(params=["disk", "lmdb", "lmdb without meta_info.txt", "lmdb of mmagic"])
def store(request, clips, tmp_path):
    if request.param == "disk":
        return open_store(clips.gt)
    images = png_bytes(clips)
    if request.param == "lmdb of mmagic":
        images = {key.replace("/", "_"): value for key, value in images.items()}
    return make_lmdb(tmp_path / "gt.lmdb", images, meta_info="without" not in request.param)


def test_every_store_reads_the_same(store, clips):
    assert store.clips() == ["000", "001"]
    assert store.frames("001") == ["00000000", "00000001", "00000002"]
    assert store.frames("002") == []
    assert store.has("000/00000002")
    assert not store.has("000/00000003")
    assert store.size("000/00000000") == (32, 40)
    expected = cv2.imread(str(clips.gt / "001" / "00000002.png"))[..., ::-1]
    frame = store.read("001/00000002")
    np.testing.assert_array_equal(frame, expected)
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous


def test_a_crop_is_that_part_of_the_frame(store):
    frame = store.read("000/00000001")
    for crop in (Crop(0, 0, 32, 40), Crop(5, 7, 8, 9), Crop(24, 31, 8, 9)):
        part = frame[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        np.testing.assert_array_equal(store.read("000/00000001", crop), part)


@pytest.mark.parametrize("crop", [Crop(25, 0, 8, 8), Crop(0, 33, 8, 8), Crop(-1, 0, 8, 8), Crop(0, -2, 8, 8)])
def test_a_crop_that_leaves_the_frame_is_refused(store, crop):
    with pytest.raises(ValueError, match=r"000.00000001.*is 32 x 40, too small for Crop"):
        store.read("000/00000001", crop)


def test_a_frame_of_another_size_than_the_crop_was_drawn_for_is_refused(store):
    assert store.read("000/00000001", Crop(0, 0, 8, 8, (32, 40))).shape == (8, 8, 3)
    with pytest.raises(ValueError, match=r"000.00000001.*is 32 x 40, not 16 x 20 as the others; all frames of a clip"):
        store.read("000/00000001", Crop(0, 0, 8, 8, (16, 20)))


def test_a_missing_frame_is_named(store):
    for read in (store.read, store.size):
        with pytest.raises(FileNotFoundError, match="000/00000009"):
            read("000/00000009")


class _Frames(Dataset):
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return 6

    def __getitem__(self, item):
        return self.store.read(f"00{item // 3}/{item % 3:08d}").astype(np.int64).sum()


def test_forked_workers_read_what_the_parent_reads_even_if_it_read_before(store):
    alone = [int(_Frames(store)[item]) for item in range(6)]
    loader = DataLoader(_Frames(store), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert [int(total) for total in loader] == alone
    assert [int(_Frames(store)[item]) for item in range(6)] == alone


def test_fresh_workers_read_what_the_parent_reads_even_if_it_read_before(clips, tmp_path):
    store = make_lmdb(tmp_path / "gt.lmdb", png_bytes(clips))
    alone = [int(_Frames(store)[item]) for item in range(6)]
    loader = DataLoader(_Frames(store), batch_size=None, num_workers=1, multiprocessing_context=fresh)
    assert [int(total) for total in loader] == alone


def test_a_copy_through_pickle_reads_the_same(store):
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read("000/00000000"), store.read("000/00000000"))


def damage(data, kind):
    if kind == "corrupt":
        middle = len(data) // 2
        return data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 4]) + data[middle + 4 :]
    if kind in ("empty", "not an image"):
        return {"empty": b"", "not an image": b"hello" * 50}[kind]
    return data[: int(len(data) * float(kind))]


@pytest.mark.parametrize("kind", ["empty", "not an image", "corrupt", "0.02", "0.5", "0.9", "0.99"])
@pytest.mark.parametrize("backend", ["disk", "lmdb"])
def test_a_damaged_frame_is_named(clips, tmp_path, kind, backend):
    images = png_bytes(clips)
    images["000/00000001"] = damage(images["000/00000001"], kind)
    if backend == "lmdb":
        store = make_lmdb(tmp_path / "gt.lmdb", images)
    else:
        for key, value in images.items():
            file = tmp_path / f"{key}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(value)
        store = open_store(tmp_path)
    with pytest.raises(ValueError, match=r"000/00000001.* (is empty|is truncated|cannot be decoded)"):
        store.read("000/00000001")
    assert store.read("000/00000002").shape == (32, 40, 3)


def test_a_truncated_jpeg_is_named(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "0.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"0\.jpg is truncated"):
        open_store(tmp_path).read("clip/0")


def test_other_names_formats_and_nesting(tmp_path):
    for clip, name in (("b/2", "im1.png"), ("b/10", "im1.jpg"), ("a", "10.bmp"), ("a", "9.PNG"), ("a", "notes.txt")):
        (tmp_path / clip).mkdir(parents=True, exist_ok=True)
        if not name.endswith("txt"):
            data = cv2.imencode(name[name.index(".") :].lower(), np.full((4, 6), 50, np.uint8))[1].tobytes()
            (tmp_path / clip / name).write_bytes(data)
    (tmp_path / "empty").mkdir()
    store = open_store(tmp_path)
    assert store.clips() == ["a", "b/2", "b/10"]
    assert store.frames("a") == ["9", "10"]
    assert store.read("a/9").shape == (4, 6, 3)  # grey becomes RGB
    assert store.size("b/10/im1") == (4, 6)


def test_one_frame_in_two_files_is_refused(tmp_path):
    image = np.full((4, 6, 3), 50, np.uint8)
    for name in ("1.png", "01.png", "2.png", "2.bmp"):
        cv2.imwrite(str(tmp_path / name), image)
    with pytest.raises(ValueError, match=r"holds one frame twice, as 2\.bmp and 2\.png; keep one of the files"):
        open_store(tmp_path.parent).frames(tmp_path.name)
    (tmp_path / "2.bmp").unlink()
    assert sorted(open_store(tmp_path.parent).frames(tmp_path.name)) == ["01", "1", "2"]


def test_numbers_sort_as_numbers():
    assert sorted(["f10", "f9", "f09b", "f1"], key=natural_order) == ["f1", "f9", "f09b", "f10"]
    assert sorted(["2", "a", "10", "a1"], key=natural_order) == ["2", "10", "a", "a1"]


def test_the_wrong_backend_says_which_is_right(clips, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere' does not exist"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is not an LMDB .* set io_backend: \{type: disk\}"):
        open_store(clips.gt, IOBackend("lmdb"))
    make_lmdb(tmp_path / "gt.lmdb", {})
    with pytest.raises(ValueError, match=r"is an LMDB.* set io_backend: \{type: lmdb\}"):
        open_store(tmp_path / "gt.lmdb")


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_database_that_was_copied_in_part_is_refused_not_read_until_the_process_dies(clips, tmp_path, part):
    make_lmdb(tmp_path / "gt.lmdb", {f"{key}{repeat}": v for key, v in png_bytes(clips).items() for repeat in range(9)})
    file = tmp_path / "gt.lmdb" / "data.mdb"
    shutil.copytree(tmp_path / "gt.lmdb", tmp_path / "copy.lmdb")  # a copy, since the original is open in this process
    os.truncate(tmp_path / "copy.lmdb" / "data.mdb", int(part * file.stat().st_size))
    with pytest.raises(ValueError, match=r"copy\.lmdb' is truncated: data\.mdb has \d+ of \d+ bytes"):
        open_store(tmp_path / "copy.lmdb", IOBackend("lmdb")).read("000/000000000")


def test_a_cut_off_last_page_is_noticed_where_earlier_pages_were_given_up(tmp_path):
    """As in what is written a few frames at a time: the pages in use are fewer than those of the file."""
    folder, copy = tmp_path / "gt.lmdb", tmp_path / "copy.lmdb"
    with lmdb.open(str(folder), map_size=1 << 26) as database:
        for number in range(40):
            with database.begin(write=True) as transaction:
                transaction.put(f"000/{number:08d}".encode(), bytes(10_000))
    shutil.copytree(folder, copy)
    os.truncate(copy / "data.mdb", (copy / "data.mdb").stat().st_size - 4096)
    with pytest.raises(ValueError, match=r"copy\.lmdb' is truncated"):
        open_store(copy, IOBackend("lmdb")).clips()


def test_a_damaged_page_is_an_error_of_the_frame(clips, tmp_path):
    make_lmdb(tmp_path / "gt.lmdb", png_bytes(clips))
    shutil.copytree(tmp_path / "gt.lmdb", tmp_path / "copy.lmdb")
    file = tmp_path / "copy.lmdb" / "data.mdb"
    content = np.fromfile(file, np.uint8).reshape(-1, 4096)
    content[2:, 8:16] = 255  # numbers and kinds of the pages
    content.tofile(file)
    with pytest.raises(ValueError, match=r"copy\.lmdb' is damaged at '000/00000000'.*copy or pack it again"):
        open_store(tmp_path / "copy.lmdb", IOBackend("lmdb")).read("000/00000000")


def test_one_database_under_two_names_is_opened_once(clips, tmp_path, monkeypatch):
    make_lmdb(tmp_path / "gt.lmdb", png_bytes(clips)).read("000/00000000")
    (tmp_path / "link.lmdb").symlink_to("gt.lmdb")
    monkeypatch.chdir(tmp_path)
    for name in ("gt.lmdb", "link.lmdb", "link.lmdb/../gt.lmdb"):
        assert open_store(name, IOBackend("lmdb")).read("000/00000000").shape == (32, 40, 3)


def test_a_database_that_was_shrunk_by_deletions_is_whole(tmp_path):
    """LMDB may count pages at the end of the file that it never wrote; they are not used."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "gt.lmdb"
    with lmdb.open(str(folder), map_size=1 << 26, sync=False) as database:
        for _ in range(20):
            with database.begin(write=True) as transaction:
                for key in rng.integers(0, 40, 30):
                    if rng.random() < 0.4:
                        transaction.delete(f"000/{key:08d}".encode())
                    else:
                        transaction.put(f"000/{key:08d}".encode(), rng.bytes(int(rng.integers(10, 50_000))))
    open_store(folder, IOBackend("lmdb")).clips()


def test_a_damaged_database_is_named(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"\0" * 100)
    (tmp_path / "meta_info.txt").write_text("000/00000000.png (32,40,3) 1\n")
    with pytest.raises(ValueError, match="cannot be read"):
        open_store(tmp_path, IOBackend("lmdb")).read("000/00000000")


@pytest.mark.parametrize("name", ["00000002.png", "00000002.jpg"])
def test_a_folder_with_the_name_of_a_frame_is_none(clips, tmp_path, name):
    shutil.copytree(clips.gt / "000", tmp_path / "000")
    (tmp_path / "000" / "00000002.png").unlink()
    (tmp_path / "000" / name).mkdir()
    store = open_store(tmp_path)
    assert store.frames("000") == ["00000000", "00000001"]
    assert not store.has("000/00000002")
    with pytest.raises(FileNotFoundError, match=r"00000002\.png' does not exist"):
        store.read("000/00000002")


def test_a_list_of_an_lmdb_that_is_no_text_is_named(clips, tmp_path):
    make_lmdb(tmp_path / "gt.lmdb", png_bytes(clips))
    (tmp_path / "gt.lmdb" / "meta_info.txt").write_text("000/00000000.png (32,40,3) 1\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"meta_info\.txt is not a text file in UTF-8"):
        open_store(tmp_path / "gt.lmdb", IOBackend("lmdb"))


def test_clips_with_spaces_are_read_from_the_list_of_an_lmdb(tmp_path):
    with lmdb.open(str(tmp_path / "gt.lmdb"), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for key in ("my clip/00000000", "my clip/00000001"):
            transaction.put(key.encode(), cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    lines = "my clip/00000000.png (8,8,3) 0\nmy clip/00000001.png (8, 8, 3)\n"
    (tmp_path / "gt.lmdb" / "meta_info.txt").write_text(lines)
    store = open_store(tmp_path / "gt.lmdb", IOBackend("lmdb"))
    assert store.clips() == ["my clip"] and store.frames("my clip") == ["00000000", "00000001"]


def test_numerals_that_are_no_digits_are_part_of_a_name():
    assert sorted(["10²", "2", "10"], key=natural_order) == ["2", "10", "10²"]


def test_a_link_back_into_the_tree_is_not_followed_and_another_is(clips, tmp_path):
    root = tmp_path / "gt"
    shutil.copytree(clips.gt, root)
    (root / "all").symlink_to(".")
    (root / "000" / "up").symlink_to("..")
    (root / "again").symlink_to("000")
    assert open_store(root).clips() == ["000", "001", "again"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPG", ".Png", ".webp"])
def test_reading_does_not_list_the_folder(tmp_path, monkeypatch, suffix):
    (tmp_path / "000").mkdir()
    frame = cv2.imencode(suffix.lower(), np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
    for number in range(3):
        (tmp_path / "000" / f"{number:08d}{suffix}").write_bytes(frame)
    store = open_store(tmp_path)
    assert store.frames("000") == ["00000000", "00000001", "00000002"]

    def refuse(*_):
        raise AssertionError("a folder was listed")

    for name in ("scandir", "listdir", "walk"):
        monkeypatch.setattr(os, name, refuse)
    for key in ("000/00000000", "000/00000002"):
        assert store.read(key).shape == (8, 8, 3)
        assert store.size(key) == (8, 8)
        assert store.has(key)
    with pytest.raises(FileNotFoundError):
        store.read("000/00000003")
