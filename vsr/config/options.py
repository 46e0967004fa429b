"""The sections of an options file; each class documents its keys. Components document theirs in their constructors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from addict import Dict

from vsr.contracts import DataSpec, Precision
from vsr.metrics import calculate_psnr, calculate_ssim
from vsr.registry import Component, NotNegative, Positive, at_least, at_most
from vsr.utils.errors import refuse

Port = Annotated[int, at_least(1), at_most(65535)]
Metric = Annotated[Callable[..., float], Component("metric")]
METRICS = {"psnr": partial(calculate_psnr), "ssim": partial(calculate_ssim)}
LONGEST_NAME = 200  # bytes: a file system has 255, and endings are added


@dataclass(frozen=True)
class StageOptions:
    """A later stage of a progressive training; ~ keeps a number of the stage before.

    Args:
        from_iter: its first iteration, counted from 1.
        num_frame: frames of a training clip.
        gt_size: side of the GT crop in pixels.
        batch_size_per_gpu: samples in a batch of one process.
    """

    from_iter: Positive
    num_frame: Positive | None = None
    gt_size: Positive | None = None
    batch_size_per_gpu: Positive | None = None


MADE_AS = ("BI", "BD")  # values of ``degradation`` that say how the LQ files were made


@dataclass(frozen=True)
class LoaderOptions:
    """How samples become batches; these keys stand beside a data set's own.

    Validation and test sets use only ``num_worker_per_gpu``, as the number of threads that read a clip.

    Args:
        batch_size_per_gpu: samples in a batch of one process.
        num_worker_per_gpu: processes that prepare samples; 0 prepares them in the training process.
        use_shuffle: draws samples in random order.
        dataset_enlarge_ratio: an epoch draws every sample this many times, shuffled as a whole: above 1, a sample may
            recur before others have come once.
        prefetch_mode: cuda copies the next batch to the GPU, and converts it, while the current one is computed. ~ and
            cpu leave it to the workers, which always prepare batches ahead. The batches are the same.
        num_prefetch_queue: batches that each worker prepares ahead.
        pin_memory: keeps batches in page-locked memory, from where a GPU copies faster; without a GPU it does nothing.
        degradation: makes the LQ frames of the GT frames, for each sample anew; ~ reads them, and so do BI and BD,
            which say how they were made: training warns where a frame shows otherwise. Needs ``gt_frames: all``.
        degrade_on: the loader degrades in its workers, ahead of the training; the device is the network's, for
            degradations that a GPU computes faster.
        stages: progressive training, ``[{from_iter: 5001, num_frame: 10, gt_size: 128, batch_size_per_gpu: 2}]``:
            from these iterations on, other training clips and batches. Each iteration still is one optimiser step.
    """

    batch_size_per_gpu: Positive = 1
    num_worker_per_gpu: NotNegative = 2
    use_shuffle: bool = True
    dataset_enlarge_ratio: Positive = 1
    prefetch_mode: Literal["cpu", "cuda"] | None = None
    num_prefetch_queue: Positive = 2
    pin_memory: bool = True
    degradation: Annotated[Callable[..., Any], Component("degradation")] | None = None
    degrade_on: Literal["loader", "device"] = "loader"
    stages: list[StageOptions] = field(default_factory=list)

    def __post_init__(self) -> None:
        starts = [stage.from_iter for stage in self.stages]
        if starts != sorted(set(starts)):
            raise ValueError(f"stages begin in iterations {starts}: give each its own, in ascending order")

    def degradation_on(self, place: Literal["loader", "device"]) -> Callable[..., Any] | None:
        """Returns the degradation if it is computed in this place."""
        return self.degradation if self.degrade_on == place else None


@dataclass(frozen=True)
class WeightFile:
    """A file of weights for a network or a part of it.

    Args:
        file: ``.pth`` or ``.safetensors``.
        strict: see ``strict_load_g``, the default; of a part, the file may hold more than the part has.
        key: see ``param_key_g``, the default.
    """

    file: str
    strict: bool | None = None
    key: str | None = None


@dataclass(frozen=True)
class PathOptions:
    """Weights and states to start from.

    Args:
        pretrain_network_g: weights (``.pth`` or ``.safetensors``) to start training from, or to test. A mapping gives
            parts of the network their own files by the prefix of the parameters' names, ``{"": EDVR_M.pth, spynet:
            spynet.pth}``; a value may also be a mapping, see WeightFile. Resuming and testing read none of them.
        strict_load_g: the parameters of the file and of the network must match exactly; with ``false`` a training
            starts with those that fit. A test always needs all.
        param_key_g: the entry of the weight file, ``params``, ``params_ema`` or another; ``null`` is ``params`` for
            training and, where the file has it, ``params_ema`` for tests. A file without entries is the parameters
            themselves.
        resume_state: a ``.state`` file; training resumes exactly where it was written. ``--auto_resume`` looks for a
            state of this experiment first.
    """

    pretrain_network_g: str | dict[str, str | WeightFile] | None = None
    strict_load_g: bool = True
    param_key_g: str | None = None
    resume_state: str | None = None

    def pretrained(self) -> dict[str, WeightFile]:
        """Returns the weights to start from by prefix; "" is the whole network."""
        given = self.pretrain_network_g or {}
        weights = {}
        for prefix, file in ({"": given} if isinstance(given, str) else given).items():
            part = WeightFile(file) if isinstance(file, str) else file
            strict = self.strict_load_g if part.strict is None else part.strict
            weights[prefix] = WeightFile(part.file, strict, part.key or self.param_key_g)
        return weights


@dataclass(frozen=True)
class ValOptions:
    """Validation while training, and testing.

    Args:
        val_freq: iterations between two validations; ``null`` validates only at the end.
        save_img: when testing, writes every restored frame as PNG, and of next frames pictures as JPEG.
        save_video: when testing, writes every restored clip as a video, ``CLIP.mp4`` at 25 frames per second.
        suffix: appended to the names of restored frames, ``00000014_SUFFIX.png``.
        pbar: shows a progress bar.
        metrics: the measures by name; each has a ``type:`` and that metric's options.
        segment: of a network of clips, frames that a call restores; ``null`` restores each clip in one call.
        warm_up: frames before a segment that the call reads as well.
        look_ahead: frames after a segment that the call reads as well.
        flip_seq: of a network of clips, restores each clip followed by itself in reverse order, and takes the mean of
            both outputs; slower and a little better.
        center_frame_only: restores and measures only the middle frame of each clip.
        precision: of the network's computation: ``float32``, ``bf16``, ``fp16``, or ``auto``: 16 bits where the device
            has the units for them. Published results are of float32.
        tile: side in pixels of LQ of the parts in which a frame is restored; ``null`` restores whole frames.
        tile_overlap: pixels of LQ that neighbouring tiles share; their outputs are blended there.
        report: when testing, writes ``report.html``: tables, curves of all frames, and pictures of up to four frames of
            a clip, the best, the median and the worst among them.
        report_frames: frames of every clip, counted from 0, whose pictures the report shows in any case, at most four;
            ``null`` is the middle one. Of a network with a memory, these frames also show its weights.
    """

    val_freq: Positive | None = None
    save_img: bool = False
    save_video: bool = False
    suffix: str | None = None
    pbar: bool = True
    metrics: dict[str, Metric] = field(default_factory=METRICS.copy)
    segment: Positive | None = None
    warm_up: NotNegative = 5
    look_ahead: NotNegative = 5
    flip_seq: bool = False
    center_frame_only: bool = False
    precision: Precision = "float32"
    tile: Positive | None = None
    tile_overlap: NotNegative = 32
    report: bool = True
    report_frames: list[NotNegative] | None = None

    def __post_init__(self) -> None:
        mistakes = [] if self.metrics else ["metrics: empty; name at least one metric, or leave metrics out"]
        for name in self.metrics:  # it becomes a column of metrics.csv
            if not name.isprintable() or "," in name:
                mistakes.append(f"metrics: the name {name[:60]!r} is invalid; choose letters, digits and underscores")
        if self.tile is not None and self.tile <= self.tile_overlap:
            mistakes.append(f"tile: {self.tile} has to be larger than tile_overlap, {self.tile_overlap}")
        if self.report_frames is not None and not 1 <= len(set(self.report_frames)) <= 4:
            mistakes.append(f"report_frames: {len(set(self.report_frames))} frames; name one to four, or leave it out")
        if self.suffix is not None and "/" in self.suffix:
            mistakes.append(f"suffix: '{self.suffix}' is part of a file name and cannot contain slashes")
        refuse(mistakes)


@dataclass(frozen=True)
class WandbOptions:
    """Mirrors TensorBoard's curves to Weights & Biases, when ``project`` is given.

    Args:
        project: the project's name; ``null`` is off. Needs the package ``wandb``.
        resume_id: the run to continue.
        required: training ends if W&B fails; by default it logs one line and continues without it.
    """

    project: str | None = None
    resume_id: str | None = None
    required: bool = False


@dataclass(frozen=True)
class VisdomOptions:
    """Sends the curves to a running Visdom server. Needs the package ``visdom``.

    Args:
        port: of the server.
        server: its address.
        required: training ends if Visdom fails; by default it logs one line and continues without it.
    """

    port: Port = 8097
    server: str = "http://localhost"
    required: bool = False


@dataclass(frozen=True)
class LoggerOptions:
    """The log, curves and saved files of a training.

    Args:
        print_freq: iterations between two lines of the log.
        save_checkpoint_freq: iterations between two saves of weights and state.
        use_tb_logger: writes TensorBoard curves to ``experiments/NAME/tb_logger``.
        keep_states: how many of the newest training states are kept; older ones are deleted.
        keep_state_every: older states whose iteration is a multiple of this are kept too; null keeps none.
        keep_weights: how many of the newest weight files are kept; null keeps all.
        on_failed_write: when a write fails while training, for example on a full disk: ``stop`` with a message, or
            ``go_on`` without that file. The last save must succeed. Curves that cannot be written never stop training.
        wandb: see WandbOptions.
        visdom: see VisdomOptions; null is off.
    """

    print_freq: Positive = 100
    save_checkpoint_freq: Positive = 5000
    use_tb_logger: bool = True
    keep_states: Positive = 3
    keep_state_every: Positive | None = None
    keep_weights: Positive | None = None
    on_failed_write: Literal["stop", "go_on"] = "stop"
    wandb: WandbOptions = field(default_factory=WandbOptions)
    visdom: VisdomOptions | None = None

    def __post_init__(self) -> None:
        if self.wandb.project and not self.use_tb_logger:
            raise ValueError("wandb mirrors TensorBoard's curves: set logger.use_tb_logger to true")


@dataclass(frozen=True)
class DistOptions:
    """Distributed training, started by ``torchrun``.

    Args:
        backend: of GPUs, ``nccl`` or ``gloo``; ``null`` is nccl. CPUs always use gloo.
        port: the rendezvous port, 1 to 65535, where the launcher gives none.
    """

    backend: Literal["nccl", "gloo"] | None = None
    port: Port | None = None


@dataclass(frozen=True)
class DatasetOptions:
    """One entry of ``datasets``: an opened data set, and how its samples become batches.

    Args:
        phase: ``train``, ``val``, ``test_1``…
        name: of its results.
        settings: of the data set as plain data, ``type`` and defaults included.
        loader: how its samples become batches.
        spec: its DataSpec; None where the data set was not opened, or has none.
        data: the data set; None where ``--check`` did not find its files, or the command does not need it.
        stages: the data sets of ``loader.stages``.
    """

    phase: str
    name: str
    settings: dict[str, Any]
    loader: LoaderOptions
    spec: DataSpec | None = None
    data: Any = None
    stages: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class GeneralOptions:
    """The keys at the top of a file.

    Args:
        name: of the experiment; results go to ``experiments/NAME`` and ``results/NAME``.
        network_g: the network, a mapping with ``type:``.
        scale: GT size / LQ size; passed to every component that takes it.
        manual_seed: the seed of everything random.
        num_gpu: ``auto`` takes a GPU if there is one; 0 runs on the CPU; a number asks for that many.
        imports: modules of your own, ``[my_networks]`` for a my_networks.py in the folder where the command is run, on
            PYTHONPATH or beside the file: the components that they register can be named in the file.
    """

    name: str
    network_g: Annotated[partial[Any], Component("arch")]
    scale: Positive = 4
    manual_seed: NotNegative = 0
    num_gpu: NotNegative | Literal["auto"] = "auto"
    imports: list[str] | str = field(default_factory=list)
    path: PathOptions = field(default_factory=PathOptions)
    val: ValOptions = field(default_factory=ValOptions)
    logger: LoggerOptions = field(default_factory=LoggerOptions)
    dist_params: DistOptions = field(default_factory=DistOptions)

    def __post_init__(self) -> None:
        refuse([f"name {problem}"] if (problem := folder_name_problem(self.name)) else [])


@dataclass(frozen=True, kw_only=True)
class Options(GeneralOptions):
    """A checked options file.

    Args:
        datasets: by phase, ``train``, ``val``, ``test_1``…
        trainer: the registered trainer class.
        train: the options that the trainer's ``train`` parameter asks for; None in a file that only tests.
        resolved: all options, defaults included, ``resolved.network_g.num_feat``. Frozen: keys cannot be added, and a
            misspelt one raises KeyError. A state stores ``resolved.to_dict()``, plain data.
        notes: old spellings that were translated, and settings that may not be intended.
        absent: files and folders that do not exist (``--check``).
        warnings: settings that make results wrong.
        changes: the options that differ from their defaults, a line each.
    """

    datasets: dict[str, DatasetOptions]
    trainer: Callable[..., Any]
    train: Any
    resolved: Dict
    notes: list[str]
    absent: list[str]
    warnings: list[str]
    changes: list[str]

    @property
    def test_sets(self) -> dict[str, DatasetOptions]:
        """The data sets that are not for training, by phase; the tables report the last one."""
        return {phase: entry for phase, entry in self.datasets.items() if phase != "train"}


def folder_name_problem(name: str) -> str | None:
    """Returns why a name cannot be that of a folder, None if it can."""
    if name in ("", ".", "..") or set(name) & set('/\\:*?"<>|') or not name.isprintable():
        return f"{name[:60]!r} cannot be the name of a folder"
    num_bytes = len(name.encode())
    return f"'{name[:60]}…' has {num_bytes} bytes; choose at most {LONGEST_NAME}" if num_bytes > LONGEST_NAME else None
