"""From C++ to a loaded function: the compiler, its flags, and a cache on disk that several processes may share."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from einsum_compiler.ir.errors import BackendError, ToolchainError

RUNTIME = Path(__file__).resolve().parent / "runtime"

# -O2: -O3 unrolls and versions loops that are vectors already, for twice the compile time.
# -fwrapv: an index of loaded numbers may overflow; the condition that hides its place must see the number that its address is made of.
COMMON = (
    "-std=c++17", "-O2", "-shared", "-fPIC", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
    "-fwrapv", "-fvisibility=hidden", "-w",
)  # fmt: skip
# What only GCC knows, for less time in it. -fno-thread-jumps: threads nothing in vector code, for 6 to 10 % of the compile time.
# -nodefaultlibs: kernels use nothing of libstdc++, and the linker reads its symbols for 0.1 s; exceptions would.
OF_GCC = ("-fno-thread-jumps", "-fno-exceptions", "-nodefaultlibs")
LIBRARIES_OF_GCC = ("-lgomp", "-lm", "-lc", "-lgcc")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mf16c", "-DVECTOR_BYTES=64")
AVX2 = ("-mavx2", "-mfma", "-mf16c")
FLAGS = {
    "avx512bf16": (*AVX512, "-mavx512bf16"),
    "avx512": AVX512,
    "avx2": (*AVX2, "-DVECTOR_BYTES=32"),
    "portable": ("-DVECTOR_BYTES=16",),
    # For tests: what AVX-512 runs, on machines without it. The compiler splits the vectors, plain code stands in for the builtins.
    "wide": (*AVX2, "-DVECTOR_BYTES=64"),
    "widepairs": (*AVX2, "-DVECTOR_BYTES=64", "-DPAIR_PRODUCT"),
}


@dataclass(frozen=True)
class Toolchain:
    """A compiler and the instruction set it generates code for."""

    compiler: str
    isa: str

    @property
    def flags(self) -> tuple[str, ...]:
        return (*COMMON, *FLAGS[self.isa])


def instruction_set(wanted: str) -> str:
    """The set to compile for. ``native``: the best of this processor; ``avx512`` takes the products of bf16 along where it has them."""
    if wanted not in (*FLAGS, "native"):
        raise BackendError(f"unknown instruction set '{wanted}'; one of native, avx512, avx2, portable")
    if wanted not in ("native", "avx512"):
        return wanted
    flags = _processor_flags()
    avx512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags
    if wanted == "avx512":
        return "avx512bf16" if "avx512_bf16" in flags else "avx512"
    if avx512:
        return "avx512bf16" if "avx512_bf16" in flags else "avx512"
    return "avx2" if {"avx2", "fma", "f16c"} <= flags else "portable"


def runs_here(isa: str) -> bool:
    """Whether this processor executes code for an instruction set."""
    avx2, avx512 = {"avx2", "fma", "f16c"}, {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
    needed = {
        "portable": set(), "avx2": avx2, "avx512": avx512, "avx512bf16": {*avx512, "avx512_bf16"}, "wide": avx2, "widepairs": avx2,
    }  # fmt: skip
    return needed[isa] <= _processor_flags()


@functools.cache
def _processor_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()  # not Linux on x86: plain vectors, which every compiler maps to what the machine has


def shared_object(source: str, toolchain: Toolchain, folder: Path, name: str) -> Path:
    """The compiled source; from the cache if its text, the runtime headers, the flags and the compiler are the same.

    Safe with several processes: one compiles while the others wait, and the file appears by a rename. Raises ``ToolchainError`` with the
    numbered source if the compiler refuses it, ``BackendError`` if there is no compiler.
    """
    compiler = find_compiler(toolchain.compiler)
    digest = hashlib.sha256(source.encode())
    flags = (*toolchain.flags, *(OF_GCC if _is_gcc(compiler) else ()))
    for part in (_runtime_digest(), compiler_version(compiler), *flags, platform.machine()):
        digest.update(b"\0" + part.encode())
    path = folder / f"{name}-{digest.hexdigest()[:24]}.so"
    if path.exists():
        return path
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(str(path.with_suffix(".lock"))):
        if not path.exists():
            _compile(source, compiler, toolchain, path)
    return path


def _compile(source: str, compiler: str, toolchain: Toolchain, path: Path) -> None:
    # The source stays beside the object, for debuggers and for people.
    text = path.with_suffix(".cpp")
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    text.write_text(source, encoding="utf-8")
    own, libraries = (OF_GCC, LIBRARIES_OF_GCC) if _is_gcc(compiler) else ((), ())
    command = [compiler, *toolchain.flags, *own, f"-I{RUNTIME}", str(text), "-o", partial, *libraries]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            messages = tuple(line for line in done.stderr.splitlines() if "error" in line)[:5]
            if not _is_gcc(compiler):
                messages = (f"kernels are written for GCC, and {compiler} is another compiler", *messages)
            raise ToolchainError(f"{compiler} failed on generated code ({toolchain.isa})", notes=messages, code=source)
        os.chmod(partial, 0o755)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def find_compiler(name: str) -> str:
    """The path of the compiler; BackendError with what to install if there is none."""
    found = shutil.which(name)
    if found is None:
        raise BackendError(
            f"the CPU backend needs a C++ compiler and found no '{name}'",
            notes=(
                "install one: apt install g++, dnf install gcc-c++, or conda install gxx",
                "or name another in EINSUM_CXX, for example EINSUM_CXX=g++-13",
            ),
        )
    return found


def compiler_version(path: str) -> str:
    """The first line of what ``--version`` says, so that an upgraded compiler builds anew."""
    return _banner(path).split("\n", 1)[0]


def _is_gcc(path: str) -> bool:
    """Whether a compiler is GCC, whatever its name: others refuse some of its flags."""
    return "Free Software Foundation" in _banner(path)


@functools.cache
def _banner(path: str) -> str:
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout


@functools.cache
def _runtime_digest() -> str:
    digest = hashlib.sha256()
    for header in sorted(RUNTIME.glob("*.hpp")):
        digest.update(header.name.encode() + header.read_bytes())
    return digest.hexdigest()


def load_function(path: Path, entry: str) -> ctypes._FuncPointer:
    """The function of a shared object. The OpenMP runtime is PyTorch's, which is loaded first.

    Both name it ``libgomp.so.1``; the loader binds the kernel to the one already there. Two would keep two pools of
    threads that spin against each other (laws.md, D15).
    """
    import torch  # noqa: F401  brings its libgomp

    function = getattr(ctypes.CDLL(str(path)), entry)
    pointer = ctypes.c_void_p
    function.argtypes = (pointer, pointer, pointer, pointer, ctypes.c_int)
    function.restype = None
    return function  # type: ignore[no-any-return]
