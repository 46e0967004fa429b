"""The folder of a next-frame experiment's results, named as the original project's."""

from pathlib import Path
from typing import Any

from vsr.config.options import Options
from vsr.config.schema import settings_of
from vsr.engine.optim.rules import training_of
from vsr.engine.trainers.next_frame import NextFrameOptions

DATASETS = {"HumanEvaDataset": "Humaneva", "CharadesDataset": "Charades_v1_480"}
EMBEDDINGS = {"conv": "_Conv_multi_sep1by1", "conv3x3": "_Conv_multi_sep3by3", "fc": "_FC_multi_sep"}
ENCODERS = {"UNetEncoder": "unet_conv", "ResNetEncoder": "resnet18"}


def results_folder(options: Options) -> Path:
    """Returns the path TEST/MEMORY/NETWORK/TRAINING, which names an experiment's settings.

    For the README's settings that is
    ``nextframe_fi50_Humaneva/Static_Conv_multi_sep1by1_m10_e128_hop1/unet_conv[3,32,64,128][True, True, True]/``
    ``L1Loss_e1e-03_d1e-03_W64H64``. Settings that the original names lack are added.
    """
    tree, data, network = options.resolved, options.datasets["train"].settings, settings_of(options.network_g)
    dataset, encoder = tree["datasets"]["train"]["type"], network.get("encoder")
    parts = [data.get("test_type"), f"fi{data['frame_interval']}" if "frame_interval" in data else None]
    parts += [DATASETS.get(dataset, dataset), "random" if data.get("random_interval") else None]
    folder = Path("_".join(part for part in parts if part))
    if encoder is None or not {"memory", "noskip", "query_sentence_separate"} <= network.keys():  # a user's network
        return folder / tree["network_g"]["type"] / _training(tree, data, options.train)
    kind, channels = tree["network_g"]["encoder"]["type"], settings_of(encoder).get("channels") or encoder().channels
    name = f"{ENCODERS.get(kind, kind)}[{','.join(map(str, channels))}]{network['noskip']}"
    return folder / _memory(tree, network, options.train) / name / _training(tree, data, options.train)


def _memory(tree: Any, network: dict[str, Any], train: Any) -> str:
    kind, memory = tree["network_g"]["memory"]["type"], settings_of(network["memory"])
    name = "Static" + EMBEDDINGS.get(memory.get("embedding", ""), "") + (f"_{kind}" if kind != "pixsim" else "")
    if memory.get("flat2d") is not None:
        name += f"_flat2d_stride{memory['flat2d'].stride}"
    name += f"_m{memory.get('memory_size') or 'all'}_e{memory['embed_channels'] or 'all'}_hop{memory.get('hops', 1)}"
    name += f"_crop{memory['crop']}" if memory.get("crop", 0) > 1 else ""
    name += f"_{memory['normalize']}" if memory.get("normalize", "none") != "none" else ""
    name += f"_{memory['tying']}" if memory.get("tying", "adjacent") != "adjacent" else ""
    name += f"_ws{train.wsupervised:g}" if isinstance(train, NextFrameOptions) and train.wsupervised else ""
    return f"{name}_QSsep" if network["query_sentence_separate"] else name


def _training(tree: Any, data: dict[str, Any], train: Any) -> str:
    base = settings_of(train.optim_g)["lr"]
    rates = [base * training_of(train.parameters, f"{part}.", 0).factor for part in ("encoder", "decoder", "memory")]
    loss = next(iter(tree["train"]["losses"].values()))["type"]
    name = f"{loss}_e{rates[0]:.0e}_d{rates[1]:.0e}" + (f"_m{rates[2]:.0e}" if rates[2] != rates[0] else "")
    return f"{name}_W{data['width']}H{data['height']}" if {"width", "height"} <= data.keys() else name
