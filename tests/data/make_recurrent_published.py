"""Writes recurrent_published.json: what BasicSR 1.4.2's recurrent networks, and mmagic 1.2.0's RealBasicVSR, compute.

BasicSR's run with torchvision's operator.

python tests/data/make_recurrent_published.py    # needs: pip install --no-deps basicsr==1.4.2 mmagic==1.2.0
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from edvr_cases import summary
from published import published
from published_mmagic import published_real
from recurrent_cases import CASES, REAL_CASES, REAL_SIZE, SLOW_CASES, clip, filled, quick

from vsr.archs import RealBasicVSRNet
from vsr.archs.weight_names import to_mmagic, to_ours

values = {case: summary(quick(published(name, **options)), clip(size)) for case, (name, options, size) in CASES.items()}
for case, (name, options, size) in SLOW_CASES.items():
    values[case] = summary(filled(published(name, **options)), clip(size))
frames = clip((2, 33, 40))
flow = filled(published("SpyNet"))(frames[:, 0], frames[:, 1])
values["SpyNet"] = {"flow": flow.detach().flatten()[::7].tolist()}
for case, options in REAL_CASES.items():
    theirs = published_real(**options).double()
    theirs.load_state_dict(to_mmagic(filled(RealBasicVSRNet(**options)).state_dict(), prefix=""))
    values[case] = summary(theirs.requires_grad_(True), clip(REAL_SIZE))
    values[case]["names"] = list(to_ours(dict(theirs.named_parameters())))[: len(values[case]["names"])]  # no constants
Path(__file__).with_name("recurrent_published.json").write_text(json.dumps(values) + "\n")
