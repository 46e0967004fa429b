#!/usr/bin/env bash
# Installs the wheel with another Python and another PyTorch, and uses it as a newcomer would, outside the checkout.
#
#     scripts/check_wheel.sh                       this Python, the newest PyTorch
#     scripts/check_wheel.sh python3.13 2.15.0     those
#
# The commands, a film, a training and an export run without torchvision, then the operators' tests with it. The wheel
# is built with the PyTorch of .venv, whose stable ABI is thereby checked; WHEEL=FILE takes one that is there.
# The environment lies in build/wheel/ and is used again.
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit; }
cd "$(dirname "$0")/.."
root=$PWD
python=${1:-.venv/bin/python}
version=${2:-}
work=$root/build/wheel

say() { printf '%s\n' "wheel: $*"; }

if [[ -z ${WHEEL:-} ]]; then
    say "1/4 building"
    bash scripts/setup.sh
    rm -rf "$work/dist" && mkdir -p "$work/dist"
    VSR_REQUIRE_EXT=1 .venv/bin/python -m pip wheel -q --no-build-isolation --no-deps -w "$work/dist" .
    WHEEL=$(ls "$work"/dist/torch_vsr-*.whl)
fi
WHEEL=$(realpath "$WHEEL")

name=$("$python" -c 'import sys; print("python{}.{}".format(*sys.version_info))')-torch${version:-}
venv=$work/$name
say "2/4 $name"
[[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install -q "torch${version:+==$version}" "$WHEEL[export]"
"${pip[@]}" install -q --no-deps --force-reinstall "$WHEEL"  # it may have the version number of one that is there
"${pip[@]}" check

say "3/4 commands"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"  # not in the checkout, whose vsr/ would be imported
"$venv/bin/vsr" --help > /dev/null
"$venv/bin/vsr" env | tee env.txt | grep -E '^(vsr|python|torch|triton|deform|  compiled|_C)'
grep -q '^deform_conv2d on cpu: compiled' env.txt
mkdir films
"$venv/bin/python" - <<'PYTHON'
"""Writes a film of moving waves."""

import av
import numpy as np

rows, columns = np.mgrid[:96, :128]
with av.open("films/waves.mkv", "w") as container:
    stream = container.add_stream("libx264", rate=24)
    stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
    for number in range(12):
        waves = [128 + 100 * np.sin((rows + k * columns) / 7 + number / 4) for k in (1, 2, 3)]
        frame = av.VideoFrame.from_ndarray(np.stack(waves, -1).astype(np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
PYTHON
"$venv/bin/vsr" upscale films/waves.mkv -o waves_x4.mkv --frames 3
cat > films.yml <<'YAML'
name: films
scale: 4
num_gpu: 0
manual_seed: 0
datasets:
  train: {name: films, type: VideoFolderDataset, dataroot: films, num_frame: 5, gt_size: 64, batch_size_per_gpu: 1}
network_g: {type: EDVR, num_feat: 8, deformable_groups: 2, num_extract_block: 1, num_reconstruct_block: 1}
train: {total_iter: 2, optim_g: {type: Adam, lr: 1e-4}, pixel_opt: {type: CharbonnierLoss}}
YAML
"$venv/bin/vsr" train -opt films.yml
"$venv/bin/vsr" export --weights experiments/films/models/net_g_2.safetensors --to films.onnx --deform decomposed
"$venv/bin/vsr" schema -o schema.json

say "4/4 the operators' tests"
"${pip[@]}" install -q "torch${version:+==$version}" torchvision pytest hypothesis
VSR_OPS=compiled "$venv/bin/python" -m pytest -q -c "$root/pyproject.toml" -p no:cacheprovider -m "not gpu and not slow" \
    "$root"/tests/test_deform_conv*.py "$root"/tests/test_local_window*.py "$root"/tests/test_flow_warp.py
say "$name: everything works"
