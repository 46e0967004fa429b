"""`vsr export`: ONNX and torch.export, run and compared with the network."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.data
import torch
from back_ends import compiled as needs_compiled
from safetensors.torch import load_file, save_file
from torch import nn
from training import predictor_options, small_options, write_options

from vsr import config
from vsr.ops import backend, deform_conv2d, flow_warp
from vsr.ops.onnx_nodes import translations
from vsr.tools import export
from vsr.utils.errors import UserError

NETWORK = {"type": "EDVR", "num_feat": 8, "num_frame": 3, "num_extract_block": 1, "num_reconstruct_block": 1}
NETWORK["deformable_groups"] = 2
RECURRENT = [
    {"type": "BasicVSR", "num_feat": 8, "num_block": 1},
    {"type": "BasicVSRPlusPlus", "mid_channels": 8, "num_blocks": 1},
]
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
    (lq,), (sr,) = session.get_inputs(), session.get_outputs()
    assert lq.name == "lq" and lq.shape == [1, 3, 3, "height", "width"]
    assert sr.name == "sr" and sr.shape == [1, 3, "4*height", "4*width"]
    assert f"exporting EDVR, {tmp_path}/random.safetensors" in report
    (frame,) = session.run(None, {"lq": np.zeros((1, 3, 3, 12, 40), np.float32)})
    assert frame.shape == (1, 3, 48, 160)
    assert "DeformConv" in operators(tmp_path / "net.onnx")


@pytest.mark.slow
def test_the_deformable_convolution_can_be_decomposed(run, tmp_path):
    assert max(differences(run(NETWORK, "--deform", "decomposed", "--opset", "18"))) < 1e-5
    assert "DeformConv" not in operators(tmp_path / "net.onnx")


@pytest.mark.filterwarnings("error")
def test_a_torch_program_gives_the_same_values_and_is_not_overwritten(run, tmp_path):
    assert max(differences(run(NETWORK, to="net.pt2"))) < 2e-5  # its 3×3 convolutions are PyTorch's
    with pytest.raises(UserError, match=r"net\.pt2 exists: --overwrite replaces it"):
        run(NETWORK, to="net.pt2")


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
    def forward(self, x, offset, weight, bias, mask):
        return deform_conv2d(x, offset, weight, bias, (2, 1), (1, 2), 1, mask)


class Warp(nn.Module):
    def __init__(self, padding):
        super().__init__()
        self.padding = padding

    def forward(self, x, flow):
        return flow_warp(x, flow, self.padding)


def halves(*shape):
    """Whole and half pixels, inside and far outside of a frame, its borders -1 and 0 included."""
    return torch.randint(-16, 17, shape, generator=torch.Generator().manual_seed(0)) / 2.0


def onnx_output(module, inputs, file, *, decomposed, opset=20):
    program = torch.onnx.export(
        module.eval(),
        inputs,
        dynamo=True,
        custom_translation_table=translations(decomposed),
        opset_version=opset,
        verbose=False,
    )
    program.save(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {e.name: part.numpy() for e, part in zip(session.get_inputs(), inputs, strict=True)})[0]


@pytest.mark.parametrize(("decomposed", "opset"), [(False, 19), (True, 18)])
def test_samples_on_the_border_are_equal_in_onnx_runtime(tmp_path, decomposed, opset):
    g = torch.Generator().manual_seed(0)
    x, weight, bias = torch.rand(1, 4, 6, 7, generator=g), torch.rand(6, 2, 3, 3, generator=g), torch.rand(6)
    inputs = x, halves(1, 36, 3, 9), weight, bias, torch.rand(1, 18, 3, 9, generator=g)
    output = onnx_output(Deform(), inputs, tmp_path / "deform.onnx", decomposed=decomposed, opset=opset)
    np.testing.assert_allclose(output, Deform()(*inputs).numpy(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize(("decomposed", "opset"), [(False, 19), (False, 22), (True, 18)])
def test_warped_frames_are_equal_in_onnx_runtime(tmp_path, padding, decomposed, opset):
    inputs = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0)), halves(2, 2, 6, 7)
    output = onnx_output(Warp(padding), inputs, tmp_path / "warp.onnx", decomposed=decomposed, opset=opset)
    np.testing.assert_allclose(output, Warp(padding)(*inputs).numpy(), atol=1e-6)


def photo(num_frames, size):
    """A camera that moves over a photograph, (1, t, 3, h, w) in [0, 1]."""
    picture = skimage.data.astronaut()[..., :3]
    views = [
        picture[100 + 2 * k : 100 + 2 * k + size[0], 150 - 3 * k : 150 - 3 * k + size[1]] for k in range(num_frames)
    ]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float().unsqueeze(0) / 255


@pytest.mark.slow
@pytest.mark.parametrize("deform", ["operator", "decomposed"])
@pytest.mark.parametrize("network", RECURRENT, ids=lambda network: network["type"])
def test_recurrent_networks_run_in_onnx_runtime_at_any_size(run, tmp_path, clips, network, deform):
    options = small_options(clips, network_g=network)
    options["datasets"]["train"]["gt_frames"] = "all"
    report = run(network, "--frames", "2", "--deform", deform, options=options)
    assert len(differences(report)) == 2 and max(differences(report)) < 1e-4
    assert ("GridSample" in operators(tmp_path / "net.onnx")) == (deform == "operator")
    network = built(write_options(tmp_path, options)).eval()
    network.load_state_dict(load_file(tmp_path / "random.safetensors"))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for size in ((64, 96), (53, 70)):
        with torch.no_grad():
            expected = network(photo(2, size))
        (output,) = session.run(None, {"lq": photo(2, size).numpy()})
        np.testing.assert_allclose(output, expected.numpy(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("network", RECURRENT, ids=lambda network: network["type"])
def test_recurrent_torch_programs_give_the_same_values(run, clips, network):
    options = small_options(clips, network_g=network)
    options["datasets"]["train"]["gt_frames"] = "all"
    assert max(differences(run(network, "--frames", "2", to="net.pt2", options=options))) < 1e-4


@pytest.mark.slow
def test_the_network_that_ships_is_exported_by_default(tmp_path, capsys, monkeypatch):
    assert export.main(["--to", str(tmp_path / "small.onnx")]) == 0
    assert max(differences(capsys.readouterr().out.splitlines())) < 1e-4
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs/export.md").read_text()
    names = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)  # the lines of ONNX Runtime
    assert names["sr"].shape == (1, 3, 256, 384)
    network, _ = export.network_of(None, [], None)
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    for size in ((64, 96), (52, 72)):
        frames = photo(5, size)
        with torch.no_grad():
            expected = network(frames)
        np.testing.assert_allclose(session.run(None, {"lq": frames.numpy()})[0], expected.numpy(), atol=1e-4)


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
        (["--to", "net.pt2", "--set", "scale=4"], "--set changes an options file: name it with -opt FILE"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, clips, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    file = write_options(tmp_path, small_options(clips, network_g=NETWORK))
    save_file(built(file).state_dict(), "random.safetensors")
    given = [] if "--weights" in arguments else ["--weights", "random.safetensors"]
    with pytest.raises(UserError) as refused:
        export.main([*([] if "--set" in arguments else ["-opt", str(file)]), *given, *arguments])
    assert message in str(refused.value)


def test_a_runtime_without_the_operator_is_named(tmp_path, monkeypatch):
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoSuchOperator

    def refuse(*_, **__):
        raise NoSuchOperator("Could not find an implementation for DeformConv(19)")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(UserError, match=r"net.onnx is unchecked: ONNX Runtime .*DeformConv.*--deform decomposed"):
        export.compare(nn.Identity(), tmp_path / "net.onnx", [(1, 3, 4, 4)])


def test_a_missing_package_is_named(tmp_path, clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())
    file = write_options(tmp_path, small_options(clips, network_g=NETWORK))
    with pytest.raises(UserError, match="ONNX needs the packages onnxscript: pip install"):
        export.main(["-opt", str(file), "--to", str(tmp_path / "net.onnx")])
