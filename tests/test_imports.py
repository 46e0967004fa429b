"""Components of a user's own, in modules that the options file names."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml
from training import log_of, predictor_options, rows, small_options, start, weights, write_options
from videos import make_humaneva

from vsr import config, costs
from vsr import test as tester
from vsr.data.stream.loader import batches
from vsr.data.stream.sampler import TrainSampler
from vsr.train import main as train
from vsr.utils.errors import UserError

ROOT = Path(__file__).parents[1]
OWN_NETWORK, OWN_EDGE_LOSS, OWN_METRICS, OWN_DATA = (
    part.split("```")[0] for part in (ROOT / "docs" / "training.md").read_text().split("```python\n")[1:]
)
(OWN_TEST_SET,) = (part.split("```")[0] for part in (ROOT / "docs/testing.md").read_text().split("```python\n")[1:])


def test_a_network_of_ones_own_is_trained_and_tested(tmp_path, clips):
    """The network and loss of docs/training.md, in the folder where the commands run, with a worker process."""
    (tmp_path / "my_networks.py").write_text(OWN_NETWORK)
    (tmp_path / "my_losses.py").write_text(OWN_EDGE_LOSS)
    network = {"type": "MyNetwork", "num_feat": 8}
    options = small_options(clips, imports=["my_networks", "my_losses"], datasets__train__num_worker_per_gpu=1)
    options["train"]["losses"] = {"edges": {"type": "MyEdgeLoss", "loss_weight": 0.1}}
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump({**options, "network_g": network}))
    for entry in ("costs", "train", "test"):
        process = start(tmp_path, file, entry=entry)
        text, _ = process.communicate()
        assert process.returncode == 0, text
    assert (tmp_path / "results" / "small" / "metrics.json").exists()


def test_an_arch_file_of_basicsr_is_carried_over_as_the_page_shows(tmp_path, clips, monkeypatch):
    """The lines that docs/coming_from.md adds and keeps."""
    (changes,) = (part.split("```")[0] for part in (ROOT / "docs/coming_from.md").read_text().split("```diff\n")[1:])
    (tmp_path / "my_arch.py").write_text("\n".join(line[1:] for line in changes.split("\n") if line[:1] != "-"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = small_options(clips, imports=["my_arch"], train__total_iter=1)
    network = {"type": "MyNet", "num_feat": 8, "num_block": 2}
    assert train(["-opt", str(write_options(tmp_path, {**options, "network_g": network}))]) == 0
    names = weights(tmp_path, "small", 1)["params"]
    assert {"conv_first.weight", "body.1.conv2.bias", "upconv.bias"} <= names.keys()


OWN_MEMORY = """
import torch
from torch import nn
from vsr.memory import MemoryRead
from vsr.registry import register


@register("memory", "newest")
class Newest(nn.Module):
    def __init__(self, channels: int, map_size: tuple[int, int], /, embed_channels: int | None = None) -> None:
        super().__init__()
        self.embed_channels = embed_channels or channels
        self.embedding = nn.Conv2d(channels, self.embed_channels, 1)

    def forward(self, query, sentences, valid=None, return_weights=False):
        u, read = self.embedding(query), self.embedding(sentences[:, -1])
        newest = torch.tensor([0.0] * (sentences.shape[1] - 1) + [1.0]).expand(len(query), -1)
        return MemoryRead(u, read, newest if return_weights else None)
"""


@pytest.mark.parametrize("task", ["super-resolution", "next-frame"])
def test_a_memory_of_ones_own_is_trained(tmp_path, clips, monkeypatch, task):
    """It needs what vsr.memory.Memory names, and nothing that is only ours."""
    (tmp_path / "my_memory.py").write_text(OWN_MEMORY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = {"imports": ["my_memory"], "train__total_iter": 1, "train__checkpointing": True}
    if task == "next-frame":
        options = predictor_options(make_humaneva(tmp_path / "frames"), network_g__memory={"type": "newest"}, **own)
    else:
        network = {"type": "EDVRMemory", "memory": {"type": "newest"}, "num_feat": 8, "num_frame": 3}
        network |= {"num_extract_block": 1, "num_reconstruct_block": 1, "deformable_groups": 2}
        options = small_options(clips, network_g=network, **own)
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(options))
    assert train(["-opt", str(file)]) == 0


OWN_LOSS = """
import torch
from torch import Tensor, nn
from vsr.registry import register


@register("loss", "SummedError")
def summed_error(sr: Tensor, gt: Tensor, /, reduction: str = "sum") -> Tensor:
    return (sr - gt).abs().sum()


@register("loss", "AModule")
class Loss(nn.Module):
    def __init__(self, reduction: str = "sum") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        return self.weight * (sr - gt).abs().sum()


@register("loss", "WithoutASlash")
def also_summed(prediction: Tensor, target: Tensor, reduction: str = "sum") -> Tensor:
    return (prediction - target).abs().sum()
"""


def test_a_loss_of_ones_own_that_sums_by_default_is_a_sum(tmp_path, clips, monkeypatch):
    (tmp_path / "my_loss.py").write_text(OWN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    losses = {"default": {}, "spelt_out": {"reduction": "sum"}, "module": {"type": "AModule"}}
    losses["function"] = {"type": "WithoutASlash"}
    for name, loss in losses.items():
        changes = {"train__accumulate": 2, "train__total_iter": 1, "datasets__val": None}
        options = small_options(clips, name=name, imports=["my_loss"], **changes)
        options["train"]["pixel_opt"] = {"type": "SummedError", **loss}
        file = tmp_path / "options.yml"
        file.write_text(yaml.safe_dump(options))
        assert train(["-opt", str(file)]) == 0
    for name in losses:
        assert rows(tmp_path, name) == rows(tmp_path, "default")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_of_ones_own_is_given_numbers(tmp_path, clips, monkeypatch, workers):
    """The example of docs/training.md, as PyTorch's data sets are; an epoch visits every item as often as asked."""
    (tmp_path / "my_data.py").write_text(OWN_DATA)
    for number in range(3):
        lq, gt = (np.full(shape, number / 4, np.float32) for shape in ((3, 3, 8, 8), (3, 32, 32)))
        np.savez(tmp_path / f"{number}.npz", lq=lq, gt=gt)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = small_options(clips, imports=["my_data"], train__total_iter=4, datasets__val=None)
    loader = {"num_worker_per_gpu": workers, "batch_size_per_gpu": 1, "dataset_enlarge_ratio": 2}
    options["datasets"]["train"] = {"type": "MyFrames", "folder": str(tmp_path), **loader}
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(options))
    assert train(["-opt", str(file)]) == 0
    sampler = islice(TrainSampler(3, 2), 6)
    read = [sample["key"][0] for sample in batches(config.load(file).datasets["train"].data, sampler, 1, workers)]
    assert sorted(read) == ["0", "0", "1", "1", "2", "2"]


def test_a_test_set_of_ones_own_is_validated_on_and_tested(tmp_path, clips, monkeypatch):
    """The example of docs/testing.md: its protocol follows from its clips; with the metrics of docs/training.md."""
    (tmp_path / "my_clips.py").write_text(OWN_TEST_SET)
    (tmp_path / "my_metrics.py").write_text(OWN_METRICS)
    gt = np.random.default_rng(0).integers(0, 256, (4, 40, 56, 3), np.uint8)
    np.savez(tmp_path / "walk.npz", lq=gt[:, ::4, ::4], gt=gt)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = small_options(clips, imports=["my_clips", "my_metrics"], train__total_iter=1)
    types = {"psnr": "calculate_psnr", "error": "mean_error", "flicker": "flicker"}
    options["val"]["metrics"] = {name: {"type": kind} for name, kind in types.items()}
    options["datasets"]["val"] = {"type": "MyClips", "folder": str(tmp_path), "name": "mine"}
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(options))
    assert train(["-opt", str(file)]) == 0
    names = {row[1] for row in rows(tmp_path, "small") if row[1].startswith("val/")}
    assert names == {f"val/mine/{name}" for name in types}
    assert tester.main(["-opt", str(file)]) == 0
    report = json.loads(Path("results/small/metrics.json").read_text())["datasets"]["mine"]
    assert report["protocols"]["psnr"]["name"] == "mine-rgb" and report["protocols"]["psnr"]["frames"] == 4
    assert report["scores"]["network"]["walk"].keys() == types.keys()
    assert report["lower_is_better"] == ["error", "flicker"]


@pytest.mark.parametrize(
    ("imports", "message"),
    [
        (["no_such_module"], "imports: 'no_such_module' cannot be imported from"),
        (["../my_networks.py"], "expected a name as in Python's import"),
        (["my_networks.py"], "expected a name as in Python's import: my_networks"),
        (["taken"], "imports: taken: arch 'EDVR' is registered twice"),
        ("no_such_module", "imports: 'no_such_module' cannot be imported from"),
        ([3], r"imports: expected a list or text, got \[3\]"),
    ],
)
def test_modules_that_cannot_be_imported_are_told(tmp_path, clips, monkeypatch, imports, message):
    (tmp_path / "taken.py").write_text("from vsr.registry import register\nregister('arch')(type('EDVR', (), {}))\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(small_options(clips, imports=imports)))
    with pytest.raises(UserError, match=message) as caught:
        config.load(file)
    assert "1 mistake in" in str(caught.value)


OWN_NEXT_FRAME_DATA = """
import torch
from torch.utils.data import Dataset
from vsr.contracts import DataSpec
from vsr.registry import register


@register("dataset")
class Drifting(Dataset):
    test_type, input_size = "nextframe", 3
    spec = DataSpec(task="next-frame", test_type="nextframe", num_frames=3)

    def __init__(self, count: int = 6) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, object]:
        frames = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(index)).repeat(5, 1, 1, 1)
        sample = {"sentences": frames[:3], "query": frames[3], "next": frames[4], "target": frames[4]}
        return {**sample, "key": f"clip/{index}", "clip": "clip", "action": "", "camera": ""}
"""


OWN_PREDICTOR = """
import torch
from torch import Tensor, nn
from vsr.contracts import Spec
from vsr.registry import register


@register("arch")
class Predictor(nn.Module):
    task, test_type, frame_size = "next-frame", "nextframe", (16, 24)

    def __init__(self) -> None:
        super().__init__()
        self.spec = Spec(task="next-frame", test_type="nextframe", frame_size=(16, 24))
        self.body = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, query: Tensor, sentences: Tensor, return_weights: bool = False) -> tuple[Tensor, None]:
        return query + self.body(torch.cat([query, sentences[:, -1]], 1)), None

    def frame_of(self, output: Tensor, query: Tensor) -> Tensor:
        return output
"""


OWN_METRIC = """
import numpy as np
from vsr.registry import register


@register("metric")
def falling_error(first: np.ndarray, second: np.ndarray) -> float:
    falling_error.values -= 1
    return falling_error.values


falling_error.values, falling_error.lower_is_better = 100.0, True
"""


def test_the_best_value_of_a_metric_may_be_the_lowest(tmp_path, clips, monkeypatch):
    (tmp_path / "my_metric.py").write_text(OWN_METRIC)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = small_options(clips, imports=["my_metric"], train__total_iter=2, val__val_freq=1)
    options["val"]["metrics"] = {"error": {"type": "falling_error", "better": "lower"}}
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(options))
    assert train(["-opt", str(file)]) == 0
    assert "val.metrics.error.better has no effect here: metrics know it themselves" in log_of(tmp_path)
    values = [float(row[2]) for row in rows(tmp_path, "small") if row[1] == "val/clips/error"]
    assert values[0] > values[1] and f"(best {values[1]:.4f})" in log_of(tmp_path)


BROKEN_LOSS = """
from torch import Tensor
from vsr.registry import register


@register("loss", "Broken")
def broken(sr: Tensor, gt: Tensor) -> Tensor:
    if len(sr) == 2:  # no trial of one sample
        raise TypeError("a bug of one's own")
    return (sr - gt).abs().mean()
"""


def test_a_bug_of_ones_own_does_not_wait_for_the_workers(tmp_path, clips):
    """Its traceback keeps the frames it came through, and what they hold."""
    (tmp_path / "my_loss.py").write_text(BROKEN_LOSS)
    options = small_options(clips, imports=["my_loss"], datasets__train__num_worker_per_gpu=2)
    options["train"]["pixel_opt"] = {"type": "Broken"}
    process = start(tmp_path, write_options(tmp_path, options))
    text, _ = process.communicate()
    assert process.returncode == 1 and "a bug of one's own" in text


def test_samples_of_different_sizes_make_no_batch():
    samples = [{"lq": np.zeros((3, size, 4)), "gt": np.zeros(3), "key": f"clip/{size}"} for size in (4, 5)]
    with pytest.raises(UserError, match="the samples clip/4, clip/5 make no batch, as they need the same"):
        next(batches(samples, batch_size=2))


@pytest.mark.parametrize("own_network", [False, True])
def test_a_next_frame_data_set_of_ones_own_is_trained_and_tested(tmp_path, monkeypatch, own_network):
    (tmp_path / "my_frames.py").write_text(OWN_NEXT_FRAME_DATA)
    (tmp_path / "my_predictor.py").write_text(OWN_PREDICTOR)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = predictor_options(tmp_path, imports=["my_frames"], train__total_iter=1)
    options["datasets"] = {phase: {"type": "Drifting", "num_worker_per_gpu": 0} for phase in ("train", "val")}
    if own_network:
        options |= {"network_g": {"type": "Predictor"}, "imports": ["my_frames", "my_predictor"]}
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(options))
    assert train(["-opt", str(file)]) == 0
    assert tester.main(["-opt", str(file)]) == 0
    assert costs.main(["-opt", str(file)]) == 0
    (results,) = (tmp_path / "experiments" / "small" / "Results").iterdir()
    assert results.name == "Drifting"


OWN_TRAINER = """
from torch import nn
from vsr.engine.options import TrainOptions
from vsr.engine.players import Turn
from vsr.engine.run import Run
from vsr.engine.trainer import Trainer
from vsr.registry import register


@register("trainer")
class Plain(Trainer):
    task = "next-frame"

    def __init__(self, network: nn.Module, run: Run, /, train: TrainOptions) -> None:
        super().__init__(network, run, train)

    def losses(self, batch):
        output, _ = self.players["g"].model(batch["query"], batch["sentences"])
        yield Turn("g", {name: loss(output, batch["target"]) for name, loss in self.criteria.items()}, output)

    def frames(self, output, batch):
        return output, batch["next"]
"""


def test_a_next_frame_trainer_of_ones_own_needs_no_options_of_ours(tmp_path, monkeypatch):
    (tmp_path / "my_frames.py").write_text(OWN_NEXT_FRAME_DATA)
    (tmp_path / "my_trainer.py").write_text(OWN_TRAINER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = predictor_options(tmp_path, imports=["my_frames", "my_trainer"], train__total_iter=1, trainer="Plain")
    options["datasets"] = {phase: {"type": "Drifting", "num_worker_per_gpu": 0} for phase in ("train", "val")}
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(options))
    assert train(["-opt", str(file)]) == 0
    assert "val/val/loss" in [row[1] for row in rows(tmp_path, "small")]


def test_a_metric_that_is_no_number_is_named(tmp_path, clips, monkeypatch):
    text = OWN_METRIC.replace("falling_error", "map_error").replace("return map_error.values", "return first - second")
    (tmp_path / "map_metric.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = small_options(clips, imports=["map_metric"], train__total_iter=1)
    options["val"]["metrics"] = {"error": {"type": "map_error"}}
    (tmp_path / "options.yml").write_text(yaml.safe_dump(options))
    with pytest.raises(UserError, match=r"cannot be measured: only .* arrays can be converted"):
        train(["-opt", str(tmp_path / "options.yml")])
