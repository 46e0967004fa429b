"""Writes docs/pictures/report.jpg, the upper part of a test's report, with a headless Chromium.

    python scripts/documentation/report_picture.py results/edvr_small/report.html

Needs a chromium on PATH, or $CHROMIUM.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import cv2

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "report.jpg"
FLAGS = "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=5000"


def main() -> None:
    """Writes the picture."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=formatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=[1280, 2030], metavar=("WIDTH", "HEIGHT"))
    args = parser.parse_args()
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        parser.error("no chromium on PATH, and $CHROMIUM names none")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        window = f"--window-size={args.size[0]},{args.size[1]}"
        page = args.report.absolute().as_uri()
        command = [program, *FLAGS.split(), f"--user-data-dir={folder}/profile", window, f"--screenshot={shot}", page]
        subprocess.run(command, check=True, capture_output=True)
        picture = cv2.imread(str(shot))
    assert picture is not None, "Chromium wrote it"
    cv2.imwrite(str(PICTURE), picture, [cv2.IMWRITE_JPEG_QUALITY, 76])
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
