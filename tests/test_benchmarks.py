"""Every benchmark runs, on tiny inputs and for a moment: no speed is asserted."""

import json
import sys

import numpy as np
import pytest
import torch
import yaml
from load_script import ROOT, load_script
from synthetic import make_clips
from training import small_options, write_options
from videos import noise, write_video

from vsr import config
from vsr.archs import EDVR
from vsr.archs.recurrent.basicvsr import BasicVSR
from vsr.contracts import Clip
from vsr.engine.saving.checkpoints import save_safetensors
from vsr.evaluation.restore import restore, steps_of
from vsr.utils.errors import UserError

BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # they import machine.py, as when they are run
checkout = load_script("machine", BENCHMARKS).checkout


def test_ops(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    ops = load_script("ops", BENCHMARKS)
    monkeypatch.setattr(
        ops,
        "SHAPES",
        {"cpu": [ops.Shape(1, 16, 4, 5, 2, 8), ops.Warp(1, 3, 4, 5, "border"), ops.Conv(1, 16, 4, 5, 16)]},
    )
    monkeypatch.setattr(ops, "RESULTS", tmp_path)
    operators = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    changed = [(operator, operator.fp32_precision) for operator in operators]
    ops.main(["--seconds", "0", "--save", "tiny"])
    for operator, precision in changed:  # put back, or exports fail
        operator.fp32_precision = precision
    rows = json.loads((tmp_path / "ops_tiny.json").read_text())["rows"]
    assert {row["step"] for row in rows} == {"forward", "forward+backward"}
    assert {row["name"] for row in rows} >= {"torchvision", "plain conv2d", "grid_sample"} and all(
        row["median"] > 0 for row in rows
    )
    assert f"| {rows[0]['shape']}" in capsys.readouterr().out


@pytest.mark.parametrize("memory", ["pixwise", "pixsim", "local_window"])
def test_memory(memory, monkeypatch, tmp_path, capsys):
    benchmark = load_script("memory", BENCHMARKS)
    small = {(case.form, case.backward): case for case in benchmark.CASES if case.memory == memory}
    cases = [case._replace(size=(8, 8), channels=4, repeats=2) for case in small.values()]
    monkeypatch.setattr(benchmark, "CASES", cases)
    monkeypatch.setattr("vsr.utils.allocator.keep_freed_memory", lambda: None)  # of the tests' process

    def run_here(number, device):
        return {
            key: value
            for peak in (True, False)
            for key, value in benchmark.measured(cases[number], device, peak).items()
        }

    monkeypatch.setattr(benchmark, "run_apart", run_here)
    benchmark.main(["--device", "cpu", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "memory_cpu.json").read_text())["rows"]
    assert len(rows) == len(cases) and all(row["fastest"] > 0 and row["features_mib"] > 0 for row in rows)
    assert f"| {memory} |" in capsys.readouterr().out


def test_memory_measures_a_case_in_a_process_of_its_own(monkeypatch):
    benchmark = load_script("memory", BENCHMARKS)
    number = next(i for i, case in enumerate(benchmark.CASES) if case.memory == "local_window" and not case.backward)
    monkeypatch.setattr(benchmark, "available_bytes", lambda _: 2**20)
    assert benchmark.run_apart(number, "cpu") == {"note": "not run: needs about 0 GiB"}


def test_whole_space(monkeypatch, tmp_path, capsys):
    """One process for every form, in turns; here they are functions of the tests' process."""
    benchmark = load_script("whole_space", BENCHMARKS)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(benchmark, "ROWS", [row._replace(size=(8, 8), channels=4) for row in benchmark.ROWS[:2]])
    monkeypatch.setattr(benchmark, "started", lambda _, words, path: words)

    def in_turn(processes, rounds, unit):
        served = {form: (int(words[1]), words[3]) for form, words in processes.items()}
        work = {
            form: benchmark.passes(form, benchmark.ROWS[number], benchmark.DTYPES[precision])
            for form, (number, precision) in served.items()
        }
        return {form: [{**run(), "seconds": (2.0, 3.0)} for _ in range(rounds)] for form, run in work.items()}

    monkeypatch.setattr(benchmark, "answers_in_turn", in_turn)
    benchmark.main(["--maps", "8x8", "--precision", "float32", "bf16", "--save", "tiny"])
    rows = json.loads((tmp_path / "whole_space_tiny.json").read_text())["rows"]
    assert [row["form"] for row in rows] == 2 * ["vsr", "bare", "naive"] + 2 * ["vsr", "bare"]
    assert "| 8×8 | f+b | bf16 | bare | 2 | one pass | 1.00 |" in capsys.readouterr().out


def test_whole_space_serves_a_form(monkeypatch):
    benchmark = load_script("whole_space", BENCHMARKS)
    served = []
    monkeypatch.setattr(benchmark, "serve", served.append)
    monkeypatch.setattr(benchmark, "passes", lambda *chosen: chosen)
    threads = torch.get_num_threads()
    benchmark.main(["--serve", "1", "--precision", "bf16", "--form", "bare"])
    torch.set_num_threads(threads)
    assert served == [("bare", benchmark.ROWS[1], torch.bfloat16)]


def test_all_forms_of_whole_space_read_the_same():
    benchmark = load_script("whole_space", BENCHMARKS)
    row = benchmark.ROWS[0]._replace(size=(4, 6), channels=8)
    forms = [benchmark.attention(form, row, torch.float32) for form in row.forms]
    (ours, bare, naive) = (read(*inputs)[-1] for read, inputs in forms)
    torch.testing.assert_close(ours, naive)
    torch.testing.assert_close(ours, bare.squeeze(1).transpose(1, 2).unflatten(2, row.size))


def test_training_loop(tmp_path, monkeypatch, capsys, clips):
    benchmark = load_script("training_loop", BENCHMARKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr("vsr.train.keep_freed_memory", lambda: None)  # of the tests' process
    threads = torch.get_num_threads()
    file = write_options(tmp_path, small_options(clips, datasets__val=None, logger__save_checkpoint_freq=2))
    benchmark.main(["-opt", str(file), "--warm_up", "1", "--iterations", "2", "--save", "tiny"])
    torch.set_num_threads(threads)
    kept = json.loads((tmp_path / "training_loop_tiny.json").read_text())
    ms = {row["part"]: row["ms"] for row in kept["rows"]}
    assert all(ms[part] > 0 for part in ("forward", "backward", "update", "log", "states and weights", "other"))
    rest = ms.pop("all but forward, backward and update")
    assert sum(ms.values()) == pytest.approx(ms["forward"] + ms["backward"] + ms["update"] + rest)
    assert not (tmp_path / "experiments").exists() and "| forward |" in capsys.readouterr().out


def test_training_step(tmp_path, monkeypatch, capsys):
    benchmark = load_script("training_step", BENCHMARKS)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "find_spec", lambda _: None)
    words = ["--size", "16", "--rounds", "1", "--precision", "bf16", "--channels_last", "--threads", "1"]
    benchmark.main([*words, "--against", str(ROOT), "--save", "tiny"])
    kept = json.loads((tmp_path / "training_step_tiny.json").read_text())
    assert kept["shape"] == "1x5x3x16x16" and kept["rows"].keys() == {"vsr", checkout(ROOT)}
    assert len({row["first_loss"] for row in kept["rows"].values()}) == 1
    assert all(row["cpu_ms"] > 0 and row["peak_mib"] > 0 for row in kept["rows"].values())
    assert "basicsr is left out" in capsys.readouterr().err


def test_allocator():
    threads = torch.get_num_threads()
    line = load_script("allocator", BENCHMARKS).measure(num_feat=8, height=16, width=20)
    torch.set_num_threads(threads)
    assert line.startswith("user ") and "peak" in line


def test_inference(monkeypatch, capsys, tmp_path):
    benchmark = load_script("inference", BENCHMARKS)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "find_spec", lambda _: None)
    words = ["--size", "16", "20", "--frames", "3", "--precision", "float32", "bf16"]
    benchmark.main([*words, "--against", str(ROOT), "--save", "tiny"])
    rows = json.loads((tmp_path / "inference_tiny.json").read_text())["rows"]
    assert list(rows) == ["vsr, float32", "vsr, bf16", checkout(ROOT)]
    assert all(row["cpu_seconds"] > 0 for row in rows.values())
    assert rows[checkout(ROOT)]["largest_difference"] == 0
    assert "basicsr is left out" in capsys.readouterr().err


def test_inference_times_loops_of_windows_too():
    benchmark = load_script("inference", BENCHMARKS)
    clip = benchmark.frames_of(4, 16, 20)
    network = benchmark.with_weights(EDVR(num_feat=8, num_extract_block=1, num_reconstruct_block=1))
    by_windows = list(benchmark.restored_by_windows(network, clip, torch.device("cpu")))
    ours = restore(network, steps_of(network.spec, [whole_clip(clip)]), torch.device("cpu"))
    assert all(np.abs(a.astype(int) - b.sr).max() <= 1 for a, b in zip(by_windows, ours, strict=True))


def whole_clip(frames):
    return Clip("clip", tuple("0123"), frames.__getitem__, None, range(4), "replicate")


def test_cuts(tmp_path, capsys, monkeypatch):
    benchmark = load_script("cuts", BENCHMARKS)
    monkeypatch.setattr(benchmark, "find_spec", lambda _: None)
    dark, bright = (np.full((8, 48, 64, 3), level, np.uint8) for level in (30, 200))
    write_video(tmp_path / "film.mp4", np.concatenate([dark, bright]))
    benchmark.main([str(tmp_path / "film.mp4")])
    assert "film.mp4 | 16 | 1 |" in capsys.readouterr().out


def test_overlap(tmp_path, capsys, monkeypatch, clips):
    benchmark = load_script("overlap", BENCHMARKS)
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(benchmark, "TILE_OVERLAPS", (0, 4))
    options = small_options(clips)
    file = write_options(tmp_path, options)
    network = config.load(file, need="test").network_g()
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    benchmark.main(["-opt", str(file), "--weights", str(tmp_path / "net.pth"), "--frames", "2", "--size", "8"])
    assert capsys.readouterr().out.count("\n| ") == 3


def test_overlap_of_a_recurrent_network_on_a_film(tmp_path, capsys, monkeypatch):
    benchmark = load_script("overlap", BENCHMARKS)
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(benchmark, "TILE_OVERLAPS", (4,))
    monkeypatch.setattr(benchmark, "SEGMENT_OVERLAPS", (0, 2))
    network = {"type": "BasicVSR", "num_feat": 8, "num_block": 1}
    weights = BasicVSR(num_feat=8, num_block=1).state_dict()
    save_safetensors(tmp_path / "net.safetensors", weights, {"vsr.network": json.dumps(network), "vsr.scale": "4"})
    film = write_video(tmp_path / "film.mp4", noise(9, (264, 264)))
    words = ["--weights", str(tmp_path / "net.safetensors"), "--clip", str(film), "--frames", "6"]
    benchmark.main([*words, "--size", "64", "--segment", "3"])
    text = capsys.readouterr().out
    assert "6 frames of 64 x 64" in text and "segments of 3 frames" in text and text.count("| 0 |") == 1
    with pytest.raises(UserError, match="no clip: give --clip PATH, or -opt FILE"):
        benchmark.main(words[:2])


def test_imresize(monkeypatch, capsys):
    benchmark = load_script("imresize", BENCHMARKS)
    monkeypatch.setattr(benchmark, "ROUNDS", 2)
    monkeypatch.setattr(benchmark, "SIZE", (24, 40))
    benchmark.main()
    assert capsys.readouterr().out.count("| vsr, ") == 3


def test_data(tmp_path, monkeypatch, capsys):
    benchmark = load_script("data", BENCHMARKS)
    made = make_clips(tmp_path, num_clips=1, num_frames=5, gt_size=(256, 256))
    monkeypatch.setattr(benchmark, "basicsr_dataset", lambda _: None)
    monkeypatch.setattr(benchmark, "find_spec", lambda _: None)
    monkeypatch.setattr(benchmark, "PACKED", {"tiles": ("tiles", "tiles"), "raw": ("raw", "raw")})
    roots = ["--gt", made.gt, "--lq", made.lq, "--meta", made.meta]
    arguments = [*roots, "--seconds", 0.01, "--rounds", 1, "--workers", 0, "--packs", tmp_path / "packs"]
    threads, argv = torch.get_num_threads(), ["data.py", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", argv)
    benchmark.main()
    torch.set_num_threads(threads)
    output = capsys.readouterr().out
    assert output.count("3 stores of ours give identical samples") == 1
    assert all(output.count(f"| vsr, {name} |") == 1 for name in ("folder", "tiles", "raw"))


def test_the_performance_page_names_machine_ratios_and_losses(tmp_path, monkeypatch):
    benchmark = load_script("performance", BENCHMARKS)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "PAGE", tmp_path / "performance.md")
    machine = {"date": "2026-11-29", "device": "x86_64 Some CPU", "threads": 2, "torch": "2.11.0", "note": "busy"}
    rows = {"cpu_ms": 800.0, "wall_ms": 400.0, "peak_mib": 900}, {"cpu_ms": 600.0, "wall_ms": 500.0, "peak_mib": 800}
    step = {"precision": "bf16", "channels_last": True}
    kept = {"machine": {**machine, **step}, "shape": "1x5x3x64x64", "rows": {"vsr": rows[0], "vsr at x": rows[1]}}
    (tmp_path / "training_step_performance_bf16_channels_last.json").write_text(json.dumps(kept))
    frames = {
        name: {"cpu_seconds": seconds, "wall_seconds": seconds, "peak_mib": 700}
        for name, seconds in (("vsr, bf16", 2.0), ("vsr, float32", 4.0), ("vsr at x", 8.0))
    }
    kept = {"machine": {**machine, "size": [180, 320], "frames": 30}, "rows": frames}
    (tmp_path / "inference_performance.json").write_text(json.dumps(kept))
    for precision, seconds in (("bf16", 40.0), ("float32", 71.25)):
        rows = {f"vsr, {precision}": {"cpu_seconds": seconds, "wall_seconds": 30.0, "peak_mib": 12345}}
        kept = {"machine": {**machine, "size": [540, 960], "frames": 5}, "rows": rows}
        (tmp_path / f"inference_performance_540_{precision}.json").write_text(json.dumps(kept))
    settings = {"options": "demo.yml", "set": ["train.amp=bf16"], "iterations": 200}
    kept = {"machine": {**machine, **settings}, "rows": [{"part": "forward", "ms": 60.0, "share": 0.325}]}
    (tmp_path / "training_loop_performance.json").write_text(json.dumps({**kept, "workers_ms": 35.2}))
    form = {"size": [64, 64], "backward": True, "precision": "bf16", "spread": 0.1, "features_mib": 6}
    forms = [
        {**form, "form": name, "fastest": seconds, "peak_extra_mib": peak}
        for name, seconds, peak in (("vsr", 2.2, 32), ("bare", 2.0, 18))
    ]
    (tmp_path / "whole_space_performance.json").write_text(json.dumps({"machine": machine, "rows": forms}))
    accuracy = [{"trained": "bf16", "tested": "float32", "psnr": [31.5, 31.7], "gains": [-0.01, 0.03]}]
    kept = {"machine": {**machine, "options": "demo.yml", "seeds": 2}, "rows": accuracy}
    (tmp_path / "precision_performance.json").write_text(json.dumps(kept))
    bound = {"bf16": {"gmacs_per_second": 112.4, "step_ms": 600.0, "frame_seconds": 1.5}}
    kept = {"machine": machine, "step_gmacs": 99.6, "frame_gmacs": 365.2, "rows": bound}
    (tmp_path / "ceiling_performance.json").write_text(json.dumps(kept))
    benchmark.main([])
    text = (tmp_path / "performance.md").read_text()
    assert "| 64×64 | f+b | bf16 | vsr | 2.2 | 0.1 | 1.10 | 32 | 6 |" in text
    assert "| bf16 | 40.0 | 30.0 | 12345 |\n| float32 | 71.2 | 30.0 | 12345 |" in text
    assert "| bf16 | float32 | 31.500, 31.700 | 31.600 | +0.0100 (-0.0100 to +0.0300) |" in text
    assert "| bf16 | 112 | 600 | 800 | 1.50 | 2.00 |" in text and "100·10⁹ times, a frame" in text
    assert "| forward | 60.00 | 32.50% |" in text and "workers take 35 ms" in text
    assert "2026-11-29, x86_64 Some CPU, 2 threads, torch 2.11.0; busy." in text
    assert "| bf16, channels_last | 800 | 600 | 0.75 | 1.25 | 900 against 800 |" in text
    assert "| bf16 | 2.00 | 8.00 | 4.00 | 4.00 |" in text and "| float32 | 4.00 | 8.00 | 2.00 | 2.00 |" in text


def test_the_performance_script_measures(tmp_path, monkeypatch):
    benchmark = load_script("performance", BENCHMARKS)
    calls = []
    monkeypatch.setattr(benchmark, "run", lambda script, words, name="": calls.append((script, words)))
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "PAGE", tmp_path / "performance.md")
    benchmark.main(["--measure", str(ROOT)])
    once = ["precision", "ceiling", "training_loop", "whole_space"]
    scripts = ["training_step"] * 4 + ["inference"] * 2 + once + ["inference"] * 2
    assert [script for script, _ in calls] == scripts
    assert all(words[words.index("--against") + 1] == str(ROOT) for _, words in calls[:6])


def test_the_performance_script_takes_instructions_away(monkeypatch):
    benchmark = load_script("performance", BENCHMARKS)
    calls = []
    monkeypatch.setattr(benchmark.subprocess, "run", lambda command, check, env: calls.append(env))
    benchmark.run("ops", [])
    benchmark.run("ops", [], "performance_avx2")
    assert calls[0] is None and calls[1]["VSR_CPU_ISA"] == "avx2"


def test_precisions_train_and_restore_each_seed_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clips = make_clips(tmp_path / "clips", num_clips=1, num_frames=3)
    options = small_options(clips, train__total_iter=1)
    options["datasets"]["test"] = options["datasets"].pop("val")
    benchmark = load_script("precision", BENCHMARKS)
    words = ["-opt", str(write_options(tmp_path, options)), "--seeds", "1"]
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    benchmark.main([*words, "--save", "tiny"])
    kept = json.loads((tmp_path / "precision_tiny.json").read_text())
    assert kept["rows"][0]["gains"] == [0] and kept["rows"][2]["trained"] == "bf16"
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| float32 |", "| bf16 |"))]
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| float32", "float32"],
        ["| float32", "bf16"],
        ["| bf16", "float32"],
        ["| bf16", "bf16"],
    ]
    assert rows[0].endswith("| +0.0000 (+0.0000 to +0.0000) |")
    trained = yaml.safe_load((tmp_path / "experiments/small_bf16_seed0/small_bf16_seed0.yml").read_text())
    assert trained["train"]["amp"] == "bf16"
    metrics = tmp_path / "results" / "small_bf16_seed0_in_bf16" / "metrics.json"
    assert json.loads(metrics.read_text())["datasets"]["clips"]["calls"]["precision"] == "bf16"
    written = metrics.stat().st_mtime_ns
    benchmark.main(words)
    assert metrics.stat().st_mtime_ns == written


def test_the_ceiling_counts_a_step_and_a_frame(tmp_path, monkeypatch, capsys):
    benchmark = load_script("ceiling", BENCHMARKS)
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    benchmark.main(["--size", "16", "24", "--rounds", "1", "--threads", "1", "--save", "tiny"])
    kept = json.loads((tmp_path / "ceiling_tiny.json").read_text())
    window = kept["step_gmacs"] / 3 * (16 * 24) / 64**2
    assert 0.7 * window < kept["frame_gmacs"] < window  # four extractions and halves fewer
    assert all(row["gmacs_per_second"] > 0 for row in kept["rows"].values())
    assert "| float32 |" in capsys.readouterr().out
