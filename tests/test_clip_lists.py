import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preparation.extraction import write_clip_list
from vsr.data.lists.clip_lists import (
    ClipEntry,
    check_disjoint,
    clip_of_video,
    read_beside,
    read_clip_list,
)

HEADER = "clip,video,subject,action,trial,camera,start,end,num_frames,fps,width,height\n"


def read(tmp_path, text, name="list.csv"):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_clip_list(file)


def test_the_line_of_the_documentation(tmp_path):
    (entry,) = read(tmp_path, HEADER + "S1_Box_1_(C1),video/S1/Box_1_(C1).avi,S1,Box,1,C1,0,,827,60,640,480\n")
    assert entry == ClipEntry(
        "S1_Box_1_(C1)", "video/S1/Box_1_(C1).avi", "S1", "Box", "1", "C1", 0, None, 827, 60.0, 640, 480
    )


@pytest.mark.parametrize(
    "text",
    [
        "S1_Box_1_(C1)\nS2_ThrowCatch_2_(BW4)\n",
        "clip\nS1_Box_1_(C1)\nS2_ThrowCatch_2_(BW4)",
        # byte order mark, CRLF, empty and short lines
        "\ufeffClip , start\r\nS1_Box_1_(C1),0\r\n\r\n ,\r\nS2_ThrowCatch_2_(BW4)\r\n",
        "video/S1/Box_1_(C1).avi\nS2/Image_Data/ThrowCatch_2_(BW4).avi\n",
        "clip\n/data/HumanEva/video/S1/Box_1_(C1).avi\nS2\\ThrowCatch_2_(BW4).AVI\n",
    ],
)
def test_forms_that_mean_the_same(tmp_path, text):
    first, second = read(tmp_path, text)
    assert first[0] == "S1_Box_1_(C1)"
    assert first[2:6] == ("S1", "Box", "1", "C1")
    assert second[0] == "S2_ThrowCatch_2_(BW4)"
    assert second[2:6] == ("S2", "ThrowCatch", "2", "BW4")


def test_names_hold_what_file_names_hold(tmp_path):
    assert [entry.clip for entry in read(tmp_path, '"a, b (c)"\nd\n')] == ["a, b (c)", "d"]
    entries = read(tmp_path, 'my clip 1\n"a, b (c)"\nwith [brackets]*\nnested/clip\nünïcode\n')
    assert [entry.clip for entry in entries] == ["my clip 1", "a, b (c)", "with [brackets]*", "nested/clip", "ünïcode"]


@pytest.mark.parametrize(
    ("video", "clip"),
    [
        ("video/S1/Box_1_(C1).avi", "S1_Box_1_(C1)"),
        ("S1/Image_Data/Box_1_(C1).avi", "S1_Box_1_(C1)"),
        ("./S1/Box_1_(C1).avi", "S1_Box_1_(C1)"),
        ("/home/me/video/HumanEva/video/S1/Box_1_(C1).avi", "S1_Box_1_(C1)"),
        ("Charades_v1_480/0A8CF.mp4", "0A8CF"),
        ("0A8CF.mp4", "0A8CF"),
        ("video/a.b.mp4", "a.b"),
        ("/x/y/S3/Jog_1_(C2).avi", "S3_Jog_1_(C2)"),
    ],
)
def test_a_clip_is_named_after_its_video(video, clip):
    assert clip_of_video(video) == clip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no clips"),
        (HEADER, "lists no clips"),
        ("clip,strat\na,0\n", "line 1: unknown column 'strat'; did you mean 'start'"),
        ("video,subject\na.avi,S1\n", "line 1: the header lacks the column 'clip'"),
        ("clip,clip\na,b\n", "line 1: a column appears twice"),
        ("clip,start\na,0,5\n", "line 2: more cells than the 2 columns; put a name with a comma in quotes"),
        ("clip,start\na,-1\n", "line 2: start '-1' is not a whole number"),
        ("clip,start\na,1.5\n", "line 2: start '1.5' is not a whole number"),
        ("clip,fps\na,fast\n", "line 2: fps 'fast' is not a number"),
        ("clip,start\na,٣\n", "line 2: start '٣' is not a whole number"),
        ("clip,start,end\n\na,5,5\n", "line 3: end 5 is not after start 5; end is exclusive"),
        ("clip,start\n,5\n", "line 2: '' cannot be the name"),
        ("clip\n../../etc\n", "line 2: '../../etc' cannot be the name"),
        ("clip\n/etc\n", "line 2: '/etc' cannot be the name"),
        ("clip,end\na,\nb,\na,9\n", "clip 'a' is twice in '.*list.csv', with frames in common from 0 on"),
        ("clip,start,end\na,0,10\na,9,20\n", "with frames in common from 9 on"),
        ("a\nb,c\n", "line 2: more cells than the 1 columns; put a name with a comma in quotes"),
        (
            "a.avi,one\nb\n",
            "line 1: unknown column 'a.avi'.* In a list without a header, put a name with a comma in quotes",
        ),
        ('clip\n"a\n', "after line 1: unexpected end of data; only cells with commas need quotes"),
        (b"clip\n\xff\xfe\x00", "is not a text file in UTF-8"),
        ("clip;start;end\na;0;5\n", "line 1: cells are separated by commas, got 'clip;start;end'"),
        ("clip\tstart\na\t5\n", "line 1: cells are separated by commas"),
        ("video/S1/Box_1_(C1).avi; 3\n", "line 1: cells are separated by commas"),
        (b"\x00\x01\x02", "cannot be the name|NUL"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_comments_and_repeated_entries_are_read(tmp_path):
    assert [entry.clip for entry in read(tmp_path, "# mine\n\na  # good\n  # bad: c\nb#1\na\n")] == ["a", "b#1", "a"]
    text = "# a comment, with a comma\nclip,action\n# another\na,walk #2\n"
    assert [(entry.clip, entry.action) for entry in read(tmp_path, text)] == [("a", "walk #2")]
    with pytest.raises(ValueError, match="line 4: start 'x' is not a whole number"):
        read(tmp_path, "# one\nclip,start\n# three\na,x\n")
    with pytest.raises(ValueError, match="line 2: unknown column 'clp'"):
        read(tmp_path, "# one\nclp,start\n")


@pytest.mark.parametrize("suffix", ["ts", "wmv", "flv", "mts", "3gp", "y4m"])
def test_a_video_of_any_common_format_names_its_clip(tmp_path, suffix):
    (entry,) = read(tmp_path, f"video/S1/Box_1_(C1).{suffix}\n")
    assert entry.clip == "S1_Box_1_(C1)"


def test_a_missing_list_says_who_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"list_file '.*none.csv' does not exist; scripts/prepare_humaneva.py"):
        read_clip_list(tmp_path / "none.csv")


def test_parts_of_a_clip_may_stand_in_one_list_or_several(tmp_path):
    assert len(read(tmp_path, "clip,start,end\na,10,\na,0,10\n", "train_list.csv")) == 2
    (tmp_path / "val_list.csv").write_text("b\n")
    read_beside(tmp_path / "train_list.csv")


def test_a_clip_in_two_lists_is_refused(tmp_path):
    (tmp_path / "train_list.csv").write_text("clip,start,end\na,0,100\nb,0,50\n")
    (tmp_path / "val_list.csv").write_text("clip,start,end\nb,50,\n")
    (tmp_path / "test_list.csv").write_text("c\n")
    (tmp_path / "other.csv").write_text("a\nb\nc\n")  # no split of this set
    assert [entry.clip for entry in read_beside(tmp_path / "train_list.csv")] == ["a", "b"]
    (tmp_path / "test_list.csv").write_text("b\n")
    for name in ("train_list.csv", "val_list.csv", "test_list.csv"):
        with pytest.raises(
            ValueError, match=r"clip 'b' is in '.*_list.csv' and in '.*_list.csv', with frames in common"
        ):
            read_beside(tmp_path / name)
    assert len(read_beside(tmp_path / "other.csv")) == 3


names = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z")), min_size=1).filter(
    lambda name: not name.startswith("/") and not {".", ".."} & set(name.split("/")) and not set(name) & {".", ";"}
)
numbers = st.none() | st.integers(0, 10**6)
entries = st.builds(
    ClipEntry,
    names,
    *[st.sampled_from(["", "a, b", 'say "x"', "c(1)"])] * 5,
    st.integers(0, 1000),
    st.none() | st.integers(1001, 2000),
    numbers,
    st.none() | st.sampled_from([60.0, 29.97, 23.976]),
    numbers,
    numbers,
)


@settings(deadline=None)
@given(st.lists(entries, min_size=1, max_size=5, unique_by=lambda entry: entry.clip))
def test_what_is_written_is_read(tmp_path_factory, listed):
    file = tmp_path_factory.mktemp("lists") / "list.csv"
    write_clip_list(file, listed)
    for entry, expected in zip(read_clip_list(file), listed, strict=True):
        from_name = ("subject", "action", "trial", "camera")  # an empty cell is filled in from a HumanEva name
        assert entry._replace(**{name: "" for name in from_name if not getattr(expected, name)}) == expected


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_read_or_refused_in_one_message(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("lists") / "list.csv"
    file.write_bytes(content)
    try:
        assert read_clip_list(file)
    except ValueError as error:
        assert "list.csv" in str(error)


ranges = st.tuples(st.integers(0, 30), st.none() | st.integers(1, 30)).filter(lambda r: r[1] is None or r[0] < r[1])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["train", "val"]), ranges), max_size=6))
def test_frames_in_common_are_found_whatever_the_order(parts):
    lists, frames = {"train": [], "val": []}, []
    for clip, name, (start, end) in parts:
        lists[name].append(ClipEntry(clip, start=start, end=end))
    for clip, _, (start, end) in dict.fromkeys(parts):  # repeating an entry is allowed
        frames += [(clip, number) for number in range(start, 60 if end is None else end)]
    if len(frames) == len(set(frames)):
        check_disjoint(lists)
    else:
        with pytest.raises(ValueError, match="frames in common"):
            check_disjoint(lists)
