"""Old spellings of keys, which published files have."""

from options_files import change, mistakes, write

from vsr import config
from vsr.config.spellings import modernise
from vsr.config.yaml_files import read_tree


def test_old_spellings_are_read_and_told(tmp_path, tree):
    change(tree, "datasets.train.use_flip", True)
    tree |= {"model_type": "EDVRModel", "path": {"strict_load": False, "pretrain_netwrok_g": None}, "gpu_ids": [0, 1]}
    tree["network_g"]["ema_decay"] = 0.999
    options = config.load(write(tmp_path, tree))
    assert options.datasets["train"].settings["use_hflip"] is True
    assert options.path.strict_load_g is False
    assert options.train.ema_decay == 0.999
    assert options.num_gpu == 2
    assert len(options.notes) == 11  # with three on the data sets, and one on val_freq


def test_a_mistake_names_the_key_as_the_file_has_it(tmp_path, tree):
    change(tree, "datasets.train.use_flip", "often")
    tree["path"] = {"strict_load": "maybe"}
    text = mistakes(tmp_path, tree)
    assert "path.strict_load: expected true or false" in text and "datasets.train.use_flip: expected true" in text


def test_a_list_of_gpus_beside_their_number_has_no_effect(tmp_path, tree):
    options = config.load(write(tmp_path, tree | {"gpu_ids": [0, 1]}), ["num_gpu=0"])
    assert options.num_gpu == 0
    assert options.notes[0] == "gpu_ids has no effect: num_gpu is given"


def test_an_old_and_a_new_spelling_that_disagree_are_a_mistake(tmp_path, tree):
    change(tree, "datasets.train.use_flip", True)
    change(tree, "datasets.train.use_hflip", False)
    assert "both are given" in mistakes(tmp_path, tree)


def test_old_spellings_are_read_wherever_an_anchor_is_repeated(tmp_path):
    tree = read_tree(write(tmp_path, "datasets: {train: &t {use_flip: true}, val: *t}"))
    notes = modernise(tree, {})
    assert tree["datasets"] == {"train": {"use_hflip": True}, "val": {"use_hflip": True}}
    assert len(notes) == 2
