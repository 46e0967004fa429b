from videos import make_clip

from vsr.data import HumanEvaDataset


def test_clips_are_in_the_folder_image_or_in_the_root(tmp_path):
    make_clip(tmp_path / "HumanEva" / "image" / "S1_Box_1_(C1)", 12)
    (tmp_path / "HumanEva" / "list.csv").write_text("video/S1/Box_1_(C1).avi\n")
    for root in ("HumanEva", "HumanEva/image"):
        dataset = HumanEvaDataset(str(tmp_path / root), str(tmp_path / "HumanEva" / "list.csv"), frame_interval=1)
        assert dataset[0]["key"] == "S1_Box_1_(C1)/000010"


def test_defaults_are_those_of_the_original(tmp_path):
    make_clip(tmp_path / "image" / "S1_Box_1_(C1)", 551, (4, 4))
    (tmp_path / "train_list.csv").write_text("S1_Box_1_(C1)\n")
    dataset = HumanEvaDataset(str(tmp_path), str(tmp_path / "train_list.csv"))
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample["sentences"].shape == (10, 3, 64, 64)
    assert sample["key"] == "S1_Box_1_(C1)/000500"
