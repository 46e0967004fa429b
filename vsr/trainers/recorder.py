"""What a training run shows and keeps: a progress bar, ``metrics.csv`` and TensorBoard curves."""

import csv
import io
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from vsr.options import LoggerOptions
from vsr.utils.errors import UserError
from vsr.utils.files import write_text_atomically


class Recorder:
    """Records a run from iteration ``start`` on; what an interrupted run wrote beyond it is dropped.

    Args:
        folder: the experiment's.
        start: the iteration that the run starts from.
        total: its last iteration.
        options: of the log.
        active: false, on all but the main process, records nothing.
    """

    def __init__(self, folder: Path, start: int, total: int, options: LoggerOptions, active: bool = True) -> None:
        self.active = active
        self.bar = tqdm(total=total, initial=start, unit="it", desc=folder.name, disable=None if active else True)
        self.board = None
        if not active:
            return
        self.table = folder / "metrics.csv"
        _drop_rows_after(self.table, start)
        if options.wandb.project:
            _start_wandb(folder, options)
        if options.use_tb_logger:
            from torch.utils.tensorboard import SummaryWriter  # 2 s, and not needed to test

            self.board = SummaryWriter(str(folder / "tb_logger"), purge_step=start + 1)

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        """Adds values to the table and the curves."""
        if not self.active:
            return
        with self.table.open("a", newline="") as stream:
            csv.writer(stream).writerows([iteration, name, repr(value)] for name, value in values.items())
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, iteration)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()
        if self.board:
            self.board.close()


def _drop_rows_after(table: Path, iteration: int) -> None:
    kept = [["iteration", "name", "value"]]
    if table.exists():
        with table.open(newline="") as stream:
            kept += [
                row for row in csv.reader(stream) if len(row) == 3 and row[0].isdigit() and int(row[0]) <= iteration
            ]
    text = io.StringIO()
    csv.writer(text).writerows(kept)
    write_text_atomically(table, text.getvalue())


def _start_wandb(folder: Path, options: LoggerOptions) -> None:
    try:
        import wandb
    except ImportError:
        raise UserError(
            f"logger.wandb.project is '{options.wandb.project}', but wandb is not installed: "
            "pip install wandb, or logger.wandb.project: ~"
        ) from None
    resume = {"id": options.wandb.resume_id, "resume": "allow"} if options.wandb.resume_id else {}
    wandb.init(project=options.wandb.project, name=folder.name, dir=str(folder), sync_tensorboard=True, **resume)
