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
    """Puts the compiled module into the wheel, or beside its source for an editable installation."""

    _scratch: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile."""
        self._scratch = tempfile.TemporaryDirectory()
        try:
            built = self._compile(Path(self._scratch.name))
        except (BaseError, CCompilerError, OSError) as error:
            self.app.display_warning(f"no compiled loops, numpy does their work: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version == "editable":
            shutil.copy2(built, Path(self.root) / FOLDER)
        else:
            build_data["force_include"][str(built)] = str(FOLDER / built.name)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clean up."""
        if self._scratch is not None:
            self._scratch.cleanup()

    def _compile(self, scratch: Path) -> Path:
        extension = Extension(
            MODULE,
            [str(FOLDER / "_compiled.c")],
            py_limited_api=True,
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=FLAGS,
        )
        command = Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "temp")
        command.ensure_finalized()
        command.run()
        (output,) = map(Path, command.get_outputs())
        return output
