"""Build hook: compile the loops over values where there is a C compiler; without one numpy does their work.

The bytes are the same either way (`fedmedlora_core.arithmetic`, ADR 0021), so a failing compiler is a line of
warning and not a failing installation.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.errors import BaseError, CCompilerError

MODULE = "fedmedlora_core.arithmetic._compiled"
FOLDER = Path("fedmedlora_core/fedmedlora_core/arithmetic")
# -ffp-contract=off is part of the definition of the loops: without it a compiler may fuse multiply and add.
GCC_FLAGS = (
    "-O3 -std=c11 -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-strict-aliasing -Wall -Wextra"
)
FLAGS = ["/O2", "/fp:strict"] if sys.platform == "win32" else GCC_FLAGS.split()


class LoopsBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the compiled module beside its source and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, for a wheel and for an editable installation alike."""
        if self.target_name != "wheel":
            return
        try:
            built = self._compile()
        except (BaseError, CCompilerError, OSError) as error:
            self.app.display_warning(f"no compiled loops, numpy does their work: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version != "editable":
            build_data["force_include"][str(built)] = f"fedmedlora_core/arithmetic/{built.name}"

    def _compile(self) -> Path:
        root = Path(self.root)
        for stale in (root / FOLDER).glob("_compiled.*.so"):
            stale.unlink()
        extension = Extension(
            MODULE,
            [str(FOLDER / "_compiled.c")],
            py_limited_api=True,
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=FLAGS,
        )
        command = Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
        with tempfile.TemporaryDirectory() as scratch:
            command.build_lib, command.build_temp = str(Path(scratch) / "lib"), str(Path(scratch) / "temp")
            command.ensure_finalized()
            command.run()
            (output,) = map(Path, command.get_outputs())
            return Path(shutil.copy2(output, root / FOLDER / output.name))
