"""The record of a training run: a progress bar, ``metrics.csv`` and curves in TensorBoard, W&B and Visdom."""

import csv
import io
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from vsr.config.options import LoggerOptions, VisdomOptions, WandbOptions
from vsr.utils.errors import UserError
from vsr.utils.files import failing_is_told, write_text_atomically
from vsr.utils.log import logger

TOLERATED_WAIT = 0.2  # share of the time; above, a warning names remedies, and again when the share has doubled
ROW = re.compile(r"[0-9]{1,18},[^\0]{1,9999}$")  # of metrics.csv; a crash may leave other bytes
TENSORBOARD, WANDB, VISDOM = "logger.use_tb_logger", "logger.wandb", "logger.visdom"


class Recorder:
    """Records a run from iteration ``start`` to ``total``, and drops later rows and curves of an interrupted run.

    Only the main process is ``active``; the others record nothing. Training goes on without a place for curves that
    fails, at the start or later, unless it is ``required``: then a UserError ends the training. ``num_workers`` are the
    processes that prepare samples, for the advice where training waits for them.
    """

    def __init__(
        self,
        folder: Path,
        start: int,
        total: int,
        options: LoggerOptions,
        active: bool = True,
        num_workers: int = 0,
    ) -> None:
        self.active, self.total, self.options = active, total, options
        self.bar = tqdm(total=total, initial=start, unit="it", desc=folder.name, disable=None if active else True)
        self.num_workers, self.warned_wait = num_workers, TOLERATED_WAIT / 2
        self.is_starting = True  # until the first line: its wait for data is mostly that for the workers' start
        self.folder, self.table = folder, folder / "metrics.csv"
        self.places: dict[str, Any] = {}  # of curves, by the key that asks for them
        if not active:
            return
        _drop_rows_after(self.table, start)
        if options.wandb.project:  # before TensorBoard, whose curves it mirrors
            self._open(WANDB, lambda: _start_wandb(folder, options.wandb))
        if options.use_tb_logger:
            self._open(TENSORBOARD, lambda: _new_board(folder, start))
        if options.visdom:
            visdom = options.visdom
            self._open(VISDOM, lambda: _connect_visdom(folder.name, visdom))

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        """Adds values to the table and the curves."""
        if not self.active:
            return
        goes_on = self.options.on_failed_write == "go_on"
        with failing_is_told(goes_on), self.table.open("a", newline="") as stream:
            csv.writer(stream).writerows([iteration, name, repr(value)] for name, value in values.items())
        self.curves(iteration, values)

    def curves(self, iteration: int, values: dict[str, float]) -> None:
        """Adds values to the curves alone."""
        for name, value in values.items():
            line = {"win": name, "update": "append", "opts": {"title": name}}
            self._show(TENSORBOARD, lambda board: board.add_scalar(name, value, iteration))  # noqa: B023 (called at once)
            self._show(VISDOM, lambda visdom: visdom.line([value], [iteration], **line))  # noqa: B023

    def images(self, iteration: int, images: dict[str, np.ndarray]) -> None:
        """Shows images, (h, w, 3) uint8 RGB, by title."""
        for title, image in images.items():
            planes, window = image.transpose(2, 0, 1), {"win": title, "opts": {"title": title}}
            self._show(TENSORBOARD, lambda board: board.add_image(f"example/{title}", planes, iteration))  # noqa: B023
            self._show(VISDOM, lambda visdom: visdom.image(planes, **window))  # noqa: B023

    def line(
        self,
        iteration: int,
        values: dict[str, float],
        speed: float,
        wait: float,
        memory: float,
        losses: Mapping[str, float] | None = None,
    ) -> None:
        """Logs the progress of the training.

        ``values`` are ``loss``, ``loss_per_value``, ``psnr`` in dB and ``lr``; ``speed`` is in iterations per second,
        ``wait`` the share of the time spent waiting for data, ``memory`` the peak in GiB; ``losses`` have names.
        """
        self.bar.set_postfix_str(f"loss {values['loss_per_value']:.4g}, data wait {wait:.0%}", refresh=False)
        named = ", ".join(f"{name} {value:.4g}" for name, value in (losses or {}).items())
        named = f"; {named}" if named else ""
        logger.info(
            f"iter {iteration}/{self.total}  "
            f"loss {values['loss']:.4g} ({values['loss_per_value']:.4g} per value{named})  "
            f"PSNR {values['psnr']:.2f} dB  lr {values['lr']:.3g}  {speed:.2f} it/s  data wait {100 * wait:.0f} %  "
            f"{memory:.1f} GiB  ETA {timedelta(seconds=round((self.total - iteration) / speed))}"
        )
        if wait > 2 * self.warned_wait and not self.is_starting:
            self.warned_wait = wait
            has_idle_cores = self.num_workers < len(os.sched_getaffinity(0))
            remedy = "raise datasets.train.num_worker_per_gpu; " if has_idle_cores else ""
            logger.warning(
                f"{100 * wait:.0f} % of the time was spent waiting for data: {remedy}"
                "python -m vsr.bench_data -opt FILE names the bottleneck and remedies"
            )
        self.is_starting = False

    def rewind(self, iteration: int, validation: bool = False) -> None:
        """Drops rows and curves after an iteration and, with ``validation``, those of its own validation."""
        if self.active:
            _drop_rows_after(self.table, iteration, validation)
        if TENSORBOARD in self.places:  # a new file of events makes it forget the later ones of older files
            self._show(TENSORBOARD, lambda board: board.close())
            self._open(TENSORBOARD, lambda: _new_board(self.folder, iteration))

    def _open(self, place: str, open_: Callable[[], Any]) -> None:
        """Opens a place for curves."""
        try:
            self.places[place] = open_()
        except Exception as error:  # any code may stand there
            self._leave_out(place, error)

    def _show(self, place: str, show: Callable[[Any], object]) -> None:
        """Calls a function with a place for curves, where there is one."""
        if place in self.places:
            try:
                show(self.places[place])
            except Exception as error:
                self._leave_out(place, error)

    def _leave_out(self, place: str, error: Exception) -> None:
        """Continues without a place that failed; raises a UserError if it is required."""
        self.places.pop(place, None)
        line = str(error).split("\n")[0].rstrip(".")
        text = f"{place}: {line}" if isinstance(error, UserError) else f"{place}: {type(error).__name__}: {line}"
        visdom, wandb = self.options.visdom, self.options.wandb  # W&B mirrors TensorBoard's curves
        needed = visdom is not None and visdom.required if place == VISDOM else wandb.project and wandb.required
        if needed:
            raise UserError(f"{text}; {VISDOM if place == VISDOM else WANDB}.required is true") from error
        logger.warning("%s. Continuing without it.", text)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()
        self._show(TENSORBOARD, lambda board: board.close())


def _drop_rows_after(table: Path, iteration: int, validation: bool = False) -> None:
    def is_kept(number: str, name: str) -> bool:
        return int(number) < iteration or (int(number) == iteration and not (validation and name.startswith("val/")))

    kept = [["iteration", "name", "value"]]
    if table.exists():
        with table.open(newline="", errors="replace") as stream:
            rows = (next(csv.reader([line])) for line in stream if ROW.match(line))
            kept += [row for row in rows if len(row) == 3 and is_kept(*row[:2])]
    text = io.StringIO()
    csv.writer(text).writerows(kept)
    write_text_atomically(table, text.getvalue())


def _new_board(folder: Path, iteration: int) -> Any:
    """Returns a writer of TensorBoard's that forgets curves after an iteration."""
    from torch.utils.tensorboard import SummaryWriter  # 2 s, and not needed to test

    return SummaryWriter(str(folder / "tb_logger"), purge_step=iteration + 1)


def _start_wandb(folder: Path, options: WandbOptions) -> Any:
    try:
        import wandb  # type: ignore[import-not-found]  # optional
    except ImportError:
        raise UserError("wandb is not installed: pip install wandb") from None
    resume = {"id": options.resume_id, "resume": "allow"} if options.resume_id else {}
    return wandb.init(project=options.project, name=folder.name, dir=str(folder), sync_tensorboard=True, **resume)


def _connect_visdom(name: str, options: VisdomOptions) -> Any:
    try:
        import visdom  # type: ignore[import-not-found]  # optional
    except ImportError:
        raise UserError("visdom is not installed: pip install visdom") from None
    where = {"server": options.server, "port": options.port, "env": name}
    try:
        # we only send: the socket for answers, which Visdom opens by default, fails with current websocket clients
        return visdom.Visdom(**where, use_incoming_socket=False, raise_exceptions=True)
    except ConnectionError:
        text = f"no server answers at {options.server}:{options.port}; start one with python -m visdom.server -port"
        raise UserError(f"{text} {options.port}") from None
