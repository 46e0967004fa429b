"""Writes recurrent_published.json: what BasicSR 1.4.2's recurrent networks compute with torchvision's operator.

python tests/data/make_recurrent_published.py    # needs: pip install --no-deps basicsr==1.4.2
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from edvr_cases import summary
from published import published
from recurrent_cases import CASES, SLOW_CASES, clip, filled, quick

values = {case: summary(quick(published(name, **options)), clip(size)) for case, (name, options, size) in CASES.items()}
for case, (name, options, size) in SLOW_CASES.items():
    values[case] = summary(filled(published(name, **options)), clip(size))
frames = clip((2, 33, 40))
flow = filled(published("SpyNet"))(frames[:, 0], frames[:, 1])
values["SpyNet"] = {"flow": flow.detach().flatten()[::7].tolist()}
Path(__file__).with_name("recurrent_published.json").write_text(json.dumps(values) + "\n")
