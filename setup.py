"""Build of the compiled engine: every .pyx under src/pgferry/engine, in PGFERRY_FLAVOUR's flavour."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAVOURS: dict[str, tuple[list[str], list[str], dict[str, bool]]] = {
    # The parts of a relay are called from one place each: together they are one large function.
    "release": (["-O3", "-g1", "-fno-plt", "--param=large-function-insns=30000"], [], {}),
    "debug": (["-O0", "-g3"], [], {}),
    # -fno-wrapv: CPython compiles with -fwrapv, which would hide signed overflow from UBSan.
    "asan": (
        ["-O1", "-g3", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-wrapv"],
        ["-fsanitize=address,undefined"],
        {},
    ),
}
flavour = os.environ.get("PGFERRY_FLAVOUR", "release")
# "none" installs the package without compiling: the Makefile has built the engine in place already.
engine = sorted(Path("src/pgferry/engine").rglob("*.pyx")) if flavour != "none" else []
cflags, ldflags, directives = FLAVOURS["release" if flavour == "none" else flavour]
setup(
    ext_modules=cythonize(
        [
            Extension(
                ".".join(p.with_suffix("").parts[1:]),
                [str(p)],
                extra_compile_args=cflags,
                extra_link_args=ldflags,
            )
            for p in engine
        ],
        compiler_directives={"language_level": 3, "cdivision": True, "embedsignature": False, **directives},
        nthreads=2,
    )
)
