import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preparation.meta_info import write_meta_info
from vsr.data.lists.meta_info import ClipInfo, read_meta_info


def read(tmp_path, text):
    file = tmp_path / "meta.txt"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_meta_info(file)


def test_columns_are_clip_frames_and_shape(tmp_path):
    clips = read(tmp_path, "000 100 (720,1280,3)\n00001/0001 7 (256,448,3)\n")
    assert clips == [ClipInfo("000", 100, (720, 1280, 3)), ClipInfo("00001/0001", 7, (256, 448, 3))]


@pytest.mark.parametrize(
    ("text", "clip"),
    [
        ("000 100\n", ClipInfo("000", 100)),
        ("000\n", ClipInfo("000")),
        ("# REDS's first\n000 # all of it\n", ClipInfo("000")),
        ("a#b 100 (720,1280,3)\t# 720p\n#000 100\n  # none\n", ClipInfo("a#b", 100, (720, 1280, 3))),
        ("S1_Box_1_(C1)\n", ClipInfo("S1_Box_1_(C1)")),
        ("000 100 (720,1280,3) 00000003\n", ClipInfo("000", 100, (720, 1280, 3), 3)),
        ("000 100 (720, 1280, 3)\r\n", ClipInfo("000", 100, (720, 1280, 3))),
        ("\n  000   100\t(720,1280,3)  \n\n", ClipInfo("000", 100, (720, 1280, 3))),
        ("000 100 (720,1280)", ClipInfo("000", 100, (720, 1280))),
    ],
)
def test_spellings_of_other_frameworks_are_read(tmp_path, text, clip):
    assert read(tmp_path, text) == [clip]


def test_what_is_written_is_basicsr_s_format_and_reads_back(tmp_path):
    clips = [ClipInfo("000", 100, (720, 1280, 3)), ClipInfo("b", 1)]
    write_meta_info(tmp_path / "meta.txt", clips)
    assert (tmp_path / "meta.txt").read_bytes() == b"000 100 (720,1280,3)\nb 1\n"
    assert read_meta_info(tmp_path / "meta.txt") == clips


@pytest.mark.parametrize(
    "line",
    [
        "000 many (720,1280,3)",
        "000 0 (720,1280,3)",
        "000 -5 (720,1280,3)",
        "000 100 720,1280,3",
        "000 100 (720,1280,3",
        "000 100 (a,b,c)",
        "000/00000000.png (720, 1280, 3)",  # mmagic lists frames
        "my clip 100 (720,1280,3)",
        "000,100,(720,1280,3)",
    ],
)
def test_malformed_line_is_named(tmp_path, line):
    with pytest.raises(ValueError, match=r"meta.txt, line 2: expected 'CLIP FRAMES \(HEIGHT,WIDTH,CHANNELS\)'"):
        read(tmp_path, f"ok 3 (4,4,3)\n{line}\n")


def test_a_clip_may_be_listed_several_times(tmp_path):
    assert [clip.name for clip in read(tmp_path, "000 100\n001 100\n000 100\n")] == ["000", "001", "000"]


def test_empty_and_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="lists no clips"):
        read(tmp_path, "\n\n")
    with pytest.raises(FileNotFoundError, match=r"none.txt' does not exist; `python scripts/generate_meta_info.py"):
        read_meta_info(tmp_path / "none.txt")


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet="01 (),x\n\t", max_size=40)))
def test_any_bytes_are_read_or_refused_with_one_message(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    try:
        clips = read(folder, data)
    except ValueError as error:
        assert "meta.txt" in str(error)
    else:
        assert all((clip.num_frames is None or clip.num_frames >= 1) and clip.name for clip in clips)


def test_a_mark_of_byte_order_is_no_part_of_a_clip(tmp_path):
    (tmp_path / "meta.txt").write_text("000 8 (48,64,3)\n", encoding="utf-8-sig")
    assert [clip.name for clip in read_meta_info(tmp_path / "meta.txt")] == ["000"]
