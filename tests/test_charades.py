import pytest
from videos import make_clip

from vsr.data import CharadesDataset


@pytest.mark.parametrize(
    ("folder", "numbering", "stem"),
    [
        ("Charades_v1_480_img", {}, "000010"),
        ("Charades_v1_480_img", {"digits": 7}, "0000010"),
        ("Charades_v1_rgb", {"first": 1, "prefix": "0A8CF-"}, "0A8CF-000011"),
        (".", {"first": 1}, "000011"),
    ],
)
def test_own_and_official_frames_are_found(tmp_path, folder, numbering, stem):
    make_clip(tmp_path / folder / "0A8CF", 12, **numbering)
    (tmp_path / "train_list.csv").write_text("clip,subject,action\n0A8CF,HR43,c092\n")
    sample = CharadesDataset(str(tmp_path), str(tmp_path / "train_list.csv"), frame_interval=1)[0]
    assert sample["key"] == f"0A8CF/{stem}"
    assert (sample["clip"], sample["action"], sample["camera"]) == ("0A8CF", "c092", "")


def test_own_frames_come_before_official_ones(tmp_path):
    make_clip(tmp_path / "Charades_v1_480_img" / "0A8CF", 12)
    make_clip(tmp_path / "Charades_v1_rgb" / "0A8CF", 12, first=1)
    (tmp_path / "train_list.csv").write_text("Charades_v1_480/0A8CF.mp4\n")
    assert (
        CharadesDataset(str(tmp_path), str(tmp_path / "train_list.csv"), frame_interval=1)[0]["key"] == "0A8CF/000010"
    )
