"""Builds ``csrc`` into ``vsr/_C.so`` (CPU) and ``vsr/_C_cuda.so``; pyproject.toml says the rest about the package.

Without PyTorch, a C++ compiler or a matching CUDA toolkit it builds less and says so in one line; vsr then runs on
Triton or plain PyTorch.

    VSR_CUDA=0              leaves the CUDA kernels out; 1 makes their absence an error
    VSR_REQUIRE_EXT=1       makes a missing library an error
    TORCH_CUDA_ARCH_LIST    GPUs to compile for, "8.0;9.0+PTX" by default
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
SOURCES = Path("csrc")
STABLE_ABI = "0x020b000000000000"  # PyTorch 2.11: the library runs on it and on every later one
CXX_FLAGS = ["-O3", "-g0", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]
NVCC_FLAGS = ["-O3", "-std=c++17", "-DUSE_CUDA"]


def say(line: str) -> None:
    """Prints to stderr, which pip shows with -v and when something fails."""
    print(f"vsr: {line}", file=sys.stderr, flush=True)  # noqa: T201


def required() -> bool:
    """Returns whether a missing library is an error."""
    return os.environ.get("VSR_REQUIRE_EXT") == "1"


def cuda_home() -> tuple[str | None, str]:
    """Returns the toolkit's folder and version, or None and what is missing.

    ``nvcc`` on PATH may be a script that calls the real one, so the compiler itself is asked where it lives.
    """
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = str(Path(home) / "bin/nvcc") if home else shutil.which("nvcc")
    if nvcc is None and Path("/usr/local/cuda/bin/nvcc").exists():
        nvcc = "/usr/local/cuda/bin/nvcc"
    if nvcc is None or not Path(nvcc).exists():
        return None, f"no nvcc at {nvcc}" if nvcc else "no nvcc on PATH and CUDA_HOME is not set"
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    dryrun = subprocess.run([nvcc, "--dryrun", "-c", "x.cu"], capture_output=True, text=True, check=False)
    release, top = re.search(r"release (\d+\.\d+)", version), re.search(r"TOP=(\S+)", dryrun.stderr + dryrun.stdout)
    if release is None:
        return None, f"{nvcc} does not run"
    found = Path(top[1]) if top else Path(nvcc).parents[1]
    return str(found.resolve()), release[1]


def cuda_problem(torch_cuda: str | None, home: str | None, version: str) -> str | None:
    """Returns why the CUDA kernels cannot be built, None if they can."""
    if os.environ.get("VSR_CUDA") == "0":
        return "VSR_CUDA=0"
    if torch_cuda is None:
        return "this PyTorch is a CPU build"
    if home is None:
        return version
    if version.split(".")[0] != torch_cuda.split(".")[0]:
        return f"the CUDA toolkit is {version}, PyTorch was built with {torch_cuda}"
    return None


def compiler_problem() -> str | None:
    """Returns why no C++ can be compiled, None if it can."""
    compiler = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(compiler) is None and shutil.which("g++") is None:
        return f"no C++ compiler (looked for {compiler} and g++); Debian and Ubuntu: apt install g++"
    return None


def extensions() -> tuple[list, dict]:
    """Returns the extension modules and the command that builds them, both empty where nothing can be compiled."""
    problem = compiler_problem()
    try:
        import torch
    except ImportError as error:
        problem = f"PyTorch is not importable here ({error}); install it, then pip install --no-build-isolation"
    if problem is not None:
        if required():
            raise SystemExit(f"vsr: VSR_REQUIRE_EXT=1, but {problem}")
        say(f"without compiled kernels: {problem}")
        return [], {}

    home, version = cuda_home()
    no_cuda = cuda_problem(torch.version.cuda, home, version)
    if no_cuda is None:
        os.environ["CUDA_HOME"] = str(home)  # read by cpp_extension when it is imported
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    elif os.environ.get("VSR_CUDA") == "1":
        raise SystemExit(f"vsr: VSR_CUDA=1, but {no_cuda}")
    say(
        f"compiling for the CPU{'' if no_cuda else f' and CUDA {version} ({home})'}"
        + (f"; no CUDA: {no_cuda}" if no_cuda else "")
    )

    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

    abi = [f"-DTORCH_TARGET_VERSION={STABLE_ABI}"]
    cxx = {"cxx": CXX_FLAGS + abi, "nvcc": NVCC_FLAGS + abi}
    headers = [str(path) for path in source_files() if path.suffix in {".h", ".cuh"}]
    common = {"py_limited_api": True, "extra_compile_args": cxx, "depends": headers, "optional": not required()}
    by_suffix = {suffix: [str(path) for path in source_files() if path.suffix == suffix] for suffix in (".cpp", ".cu")}
    modules = [CppExtension("vsr._C", by_suffix[".cpp"], **common)]
    if no_cuda is None:
        modules.append(CUDAExtension("vsr._C_cuda", by_suffix[".cu"], **common))

    class Build(BuildExtension):
        """Ends each library with a record of what it was built from, which vsr reads before it loads the library."""

        def build_extension(self, ext) -> None:  # noqa: ANN001
            try:
                super().build_extension(ext)
            except Exception as error:  # compilers fail in many ways; the package works without the library
                if required():
                    raise
                say(f"without {ext.name}: its compilation failed: {str(error).splitlines()[0]}")
                return
            is_cuda = ext.name.endswith("cuda")
            flags = " ".join((NVCC_FLAGS if is_cuda else CXX_FLAGS) + abi)
            record = {"source": source_hash(), "torch": torch.__version__, "flags": flags}
            if is_cuda:
                record |= {"cuda": version, "arch": os.environ["TORCH_CUDA_ARCH_LIST"]}
            append_record(Path(self.get_ext_fullpath(ext.name)), record)

        def copy_file(self, infile, outfile, **options) -> tuple[str, bool]:  # noqa: ANN001, ANN003
            """Replaces a library at once: another process may be about to load it."""
            super().copy_file(infile, f"{outfile}.new", **options)
            os.replace(f"{outfile}.new", outfile)
            return outfile, True

    return modules, {"build_ext": Build.with_options(no_python_abi_suffix=True)}


def append_record(library: Path, record: dict[str, str]) -> None:
    """Appends the record and a checksum to the library, as a line of JSON after the end that the loader sees."""
    content = library.read_bytes()
    record["sha256"] = hashlib.sha256(content).hexdigest()
    library.write_bytes(content + b"\nVSR-BUILD " + json.dumps(record).encode())


def source_hash() -> str:
    """Returns a hash of the kernels' sources; vsr/ops/backend.py computes the same from a checkout."""
    named = [path.relative_to(SOURCES).as_posix().encode() + (ROOT / path).read_bytes() for path in source_files()]
    return hashlib.sha256(b"".join(named)).hexdigest()[:16]


def source_files() -> list[Path]:
    """Returns the kernels' sources and headers, relative to this folder."""
    files = (ROOT / SOURCES).rglob("*")
    return sorted(path.relative_to(ROOT) for path in files if path.suffix in {".cpp", ".cu", ".h", ".cuh"})


class StableWheel(bdist_wheel):
    """Tags the wheel py3-none-PLATFORM: the library speaks no Python."""

    def run(self) -> None:
        """Builds from nothing: setuptools would pack what an earlier build left in build/lib…, deleted modules too."""
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()

    def get_tag(self) -> tuple[str, str, str]:  # noqa: D102
        tag = super().get_tag()
        return tag if self.root_is_pure else ("py3", "none", tag[2])


if __name__ == "__main__":
    ext_modules, commands = extensions()
    setup(ext_modules=ext_modules, cmdclass={**commands, "bdist_wheel": StableWheel})
