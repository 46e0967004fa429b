"""The record of a training run: a progress bar, ``metrics.csv`` and TensorBoard curves."""

import csv
import io
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from vsr.config.options import LoggerOptions, VisdomOptions
from vsr.utils.errors import UserError
from vsr.utils.files import failing_is_told, write_text_atomically
from vsr.utils.log import logger

TOLERATED_WAIT = 0.2  # share of the time; above, a warning names remedies
ROW = re.compile(r"[0-9]{1,18},[^\0]{1,9999}$")  # of metrics.csv; a crash may leave other bytes


class Recorder:
    """Records a run from iteration ``start`` to ``total``, and drops later rows and curves of an interrupted run.

    Only the main process is ``active``; the others record nothing.
    """

    def __init__(self, folder: Path, start: int, total: int, options: LoggerOptions, active: bool = True) -> None:
        self.active = active
        self.goes_on = options.on_failed_write == "go_on"
        self.bar = tqdm(total=total, initial=start, unit="it", desc=folder.name, disable=None if active else True)
        self.is_starting = True  # until the first line: its wait for data is mostly that for the workers' start
        self.board = self.visdom = None
        self.folder, self.table = folder, folder / "metrics.csv"
        if not active:
            return
        _drop_rows_after(self.table, start)
        if options.wandb.project:
            _start_wandb(folder, options)
        if options.use_tb_logger:
            self.board = self._new_board(start)
        if options.visdom:
            self.visdom = _connect_visdom(folder.name, options.visdom)

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        """Adds values to the table and the curves."""
        if not self.active:
            return
        with failing_is_told(self.goes_on), self.table.open("a", newline="") as stream:
            csv.writer(stream).writerows([iteration, name, repr(value)] for name, value in values.items())
        self.curves(iteration, values)

    def curves(self, iteration: int, values: dict[str, float]) -> None:
        """Adds values to the curves alone."""
        for name, value in values.items():
            if self.board:
                with failing_is_told(self.goes_on):
                    self.board.add_scalar(name, value, iteration)
            if self.visdom:
                self.visdom.line([value], [iteration], win=name, update="append", opts={"title": name})

    def images(self, iteration: int, images: dict[str, np.ndarray]) -> None:
        """Shows images, (h, w, 3) uint8 RGB, by title."""
        for title, image in images.items():
            if self.board:
                with failing_is_told(self.goes_on):
                    self.board.add_image(f"example/{title}", image, iteration, dataformats="HWC")
            if self.visdom:
                self.visdom.image(image.transpose(2, 0, 1), win=title, opts={"title": title})

    def line(
        self,
        iteration: int,
        total: int,
        values: dict[str, float],
        speed: float,
        wait: float,
        memory: float,
        losses: Mapping[str, float] | None = None,
    ) -> None:
        """Logs the progress of the training.

        Args:
            iteration: the current one.
            total: the last one.
            values: ``loss``, ``loss_per_value``, ``psnr`` in dB, ``lr``.
            speed: iterations per second.
            wait: share of the time spent waiting for data.
            memory: the peak, in GiB.
            losses: by name, where there are several.
        """
        self.bar.set_postfix_str(f"loss {values['loss_per_value']:.4g}, data wait {wait:.0%}", refresh=False)
        named = ", ".join(f"{name} {value:.4g}" for name, value in (losses or {}).items())
        named = f"; {named}" if named else ""
        logger.info(
            f"iter {iteration}/{total}  loss {values['loss']:.4g} ({values['loss_per_value']:.4g} per value{named})  "
            f"PSNR {values['psnr']:.2f} dB  lr {values['lr']:.3g}  {speed:.2f} it/s  data wait {100 * wait:.0f} %  "
            f"{memory:.1f} GiB  ETA {timedelta(seconds=round((total - iteration) / speed))}"
        )
        if wait > TOLERATED_WAIT and not self.is_starting:
            logger.warning(
                f"{100 * wait:.0f} % of the time was spent waiting for data: raise datasets.train.num_worker_per_gpu; "
                "python -m vsr.bench_data -opt FILE names the bottleneck and remedies"
            )
        self.is_starting = False

    def rewind(self, iteration: int, validation: bool = False) -> None:
        """Drops rows and curves after an iteration and, with ``validation``, those of its own validation."""
        if self.active:
            _drop_rows_after(self.table, iteration, validation)
        if self.board:  # a new file of events makes TensorBoard forget the later ones of older files
            self.board.close()
            self.board = self._new_board(iteration)

    def _new_board(self, iteration: int) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # 2 s, and not needed to test

        return SummaryWriter(str(self.folder / "tb_logger"), purge_step=iteration + 1)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()
        if self.board:
            with failing_is_told(self.goes_on):
                self.board.close()


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


def _start_wandb(folder: Path, options: LoggerOptions) -> None:
    try:
        import wandb  # type: ignore[import-not-found]  # optional
    except ImportError:
        raise UserError("wandb is not installed: pip install wandb, or logger.wandb.project: ~") from None
    resume = {"id": options.wandb.resume_id, "resume": "allow"} if options.wandb.resume_id else {}
    wandb.init(project=options.wandb.project, name=folder.name, dir=str(folder), sync_tensorboard=True, **resume)


def _connect_visdom(name: str, options: VisdomOptions) -> Any:
    try:
        import visdom  # type: ignore[import-not-found]  # optional
    except ImportError:
        raise UserError("logger.visdom is set, but visdom is not installed: pip install visdom, or remove it") from None
    where = {"server": options.server, "port": options.port, "env": name}
    # we only send: the socket for answers, which Visdom opens by default, fails with current websocket clients
    connection = visdom.Visdom(**where, use_incoming_socket=False, raise_exceptions=False)
    if not connection.check_connection():
        raise UserError(
            f"logger.visdom: no server answers at {options.server}:{options.port}; start it with "
            f"python -m visdom.server -port {options.port}, or remove logger.visdom"
        )
    return connection
