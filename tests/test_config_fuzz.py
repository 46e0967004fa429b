"""Options files with random mistakes: always a UserError or a right file, never another exception."""

import copy

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import make_clips
from training import small_options

from vsr import config
from vsr.utils.errors import UserError

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(),
    st.sampled_from(["", "EDVR", "1e-4", "auto", "../x", "a\x00b", "~", "off", "train", "\ud83d"]),
    st.lists(st.integers(-1, 3), max_size=3),
    st.dictionaries(st.sampled_from(["type", "lr", "x"]), st.sampled_from(["Adam", 1, None]), max_size=2),
)


def paths(tree, prefix=()):
    """Returns the key paths of a tree."""
    for key, value in tree.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from paths(value, (*prefix, key))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("fuzz"), num_clips=1, num_frames=3, gt_size=(32, 32))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_random_mistakes_are_always_told(data, clips):
    tree = copy.deepcopy(small_options(clips))
    for _ in range(data.draw(st.integers(1, 3))):
        *sections, key = data.draw(st.sampled_from(list(paths(tree))))
        mapping = tree
        for section in sections:
            mapping = mapping[section]
        action = data.draw(st.sampled_from(["set", "drop", "misspell"]))
        if action == "set":
            mapping[key] = data.draw(VALUES)
        elif action == "drop":
            del mapping[key]
        else:
            mapping[f"{key}s"] = mapping.pop(key)
    file = clips.meta.with_name("options.yml")
    file.write_bytes(yaml.safe_dump(tree).encode("utf-8", "surrogatepass"))
    try:
        config.load(file)
    except UserError as error:
        assert str(error)
