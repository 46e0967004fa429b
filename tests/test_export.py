"""`vsr export`: ONNX and torch.export, run and compared with the network."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from back_ends import compiled as needs_compiled
from safetensors.torch import save_file
from torch import nn
from training import predictor_options, small_options, write_options

from vsr import config
from vsr.ops import backend, deform_conv2d
from vsr.ops.export import onnx_translations
from vsr.tools import export
from vsr.utils.errors import UserError

NETWORK = {"type": "EDVR", "num_feat": 8, "num_frame": 3, "num_extract_block": 1, "num_reconstruct_block": 1}
NETWORK["deformable_groups"] = 2
MEMORIES = [{"type": "pixsim"}, {"type": "pixwise", "crop": 3}, {"type": "pixsentence"}]


@pytest.fixture
def run(tmp_path, clips, capsys):
    """Exports a network with random weights, moving offsets included; returns the report."""

    def run(network, *arguments, to="net.onnx", options=None):
        options = options or small_options(clips, network_g=network)
        file = write_options(tmp_path, options)
        torch.manual_seed(0)
        weights = {key: torch.randn_like(value) * 0.1 for key, value in built(file).state_dict().items()}
        save_file(weights, tmp_path / "random.safetensors")
        arguments = ["--weights", str(tmp_path / "random.safetensors"), *arguments]
        assert export.main(["-opt", str(file), "--to", str(tmp_path / to), *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def built(file):
    return config.load(file, need="test", missing_data="note").network_g()


def operators(file):
    return {node.op_type for node in onnx.load(file).graph.node}


def differences(report):
    return [float(line.rpartition(" ")[2]) for line in report if "largest difference" in line]


def test_edvr_runs_in_onnx_runtime_at_any_size(run, tmp_path):
    report = run(NETWORK)
    assert len(differences(report)) == 2
    assert max(differences(report)) < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].name == "lq"
    (frame,) = session.run(None, {"lq": np.zeros((1, 3, 3, 12, 40), np.float32)})
    assert frame.shape == (1, 3, 48, 160)
    assert "DeformConv" in operators(tmp_path / "net.onnx")


@pytest.mark.slow
def test_the_deformable_convolution_can_be_decomposed(run, tmp_path):
    assert max(differences(run(NETWORK, "--deform", "decomposed", "--opset", "18"))) < 1e-5
    assert "DeformConv" not in operators(tmp_path / "net.onnx")


def test_a_torch_program_gives_the_same_bits(run):
    assert max(differences(run(NETWORK, to="net.pt2"))) < 1e-6


@needs_compiled
def test_a_torch_program_runs_with_the_library_alone(run, tmp_path):
    run(NETWORK, to="net.pt2")
    code = (
        "import sys, torch; torch.ops.load_library(sys.argv[1]); network = torch.export.load(sys.argv[2]).module(); "
        "frame = network(torch.rand(1, 3, 3, 20, 24)); sys.exit(frame.shape[2:] != (80, 96) or 'vsr' in sys.modules)"
    )
    arguments = [str(backend.LIBRARIES["cpu"]), str(tmp_path / "net.pt2")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("memory", MEMORIES, ids=lambda memory: memory["type"])
def test_networks_with_memories_are_exported(run, memory):
    report = run({**NETWORK, "type": "EDVRMemory", "memory": memory})
    assert len(differences(report)) == 2
    assert max(differences(report)) < 1e-5


@pytest.mark.slow
def test_frame_predictors_are_exported(run, tmp_path):
    assert max(differences(run(None, options=predictor_options(tmp_path)))) < 1e-5


def test_a_fixed_size_is_kept(run, tmp_path):
    assert len(differences(run(NETWORK, "--fixed", "--size", "8", "12"))) == 1
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 3, 8, 12]


class Deform(nn.Module):
    def forward(self, x, offset, weight, mask):
        return deform_conv2d(x, offset, weight, None, 1, 1, 1, mask)


def test_samples_on_the_border_are_equal_in_onnx_runtime(tmp_path):
    g = torch.Generator().manual_seed(0)
    x, weight = torch.rand(1, 4, 6, 7, generator=g), torch.rand(5, 4, 3, 3, generator=g)
    offset = torch.randint(-8, 9, (1, 36, 6, 7), generator=g) / 2.0  # whole and half pixels, inside and far outside
    arguments = x, offset, weight, torch.rand(1, 18, 6, 7, generator=g)
    program = torch.onnx.export(
        Deform().eval(),
        arguments,
        dynamo=True,
        custom_translation_table=onnx_translations(),
        opset_version=19,
        verbose=False,
    )
    program.save(tmp_path / "deform.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "deform.onnx", providers=["CPUExecutionProvider"])
    named = {entry.name: part.numpy() for entry, part in zip(session.get_inputs(), arguments, strict=True)}
    np.testing.assert_allclose(session.run(None, named)[0], Deform()(*arguments).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "net.tflite"], "the file has to end in .onnx or .pt2"),
        (["--to", "net.onnx", "--opset", "17"], "--opset 17: expected 19 to"),
        (["--to", "net.onnx", "--opset", "99"], "--opset 99: expected 19 to"),
        (
            ["--to", "net.pt2", "--frames", "5"],
            "--frames 5: expected at least 1, of a network of clips; this one",
        ),
        (["--to", "net.pt2", "--size", "9", "12"], "--size 9 12: the network takes multiples of 4"),
        (["--to", "net.pt2", "--weights", "none.pth"], "none.pth"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, clips, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    file = write_options(tmp_path, small_options(clips, network_g=NETWORK))
    save_file(built(file).state_dict(), "random.safetensors")
    given = [] if "--weights" in arguments else ["--weights", "random.safetensors"]
    with pytest.raises(UserError) as refused:
        export.main(["-opt", str(file), *given, *arguments])
    assert message in str(refused.value)


def test_a_missing_package_is_named(tmp_path, clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())
    file = write_options(tmp_path, small_options(clips, network_g=NETWORK))
    with pytest.raises(UserError, match="ONNX needs the packages onnxscript: pip install"):
        export.main(["-opt", str(file), "--to", str(tmp_path / "net.onnx")])
