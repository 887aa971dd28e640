"""Entry point of `fedmedlora`: runs one command and turns every known error into one line and an exit code.

Exit codes: 0 done, 1 the answer is no (a verification failed, a site refused), 2 could not run (bad
arguments, a missing file, an unreachable peer), 130 interrupted, 143 ended by SIGTERM.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from fedmedlora_cli.app import build_app, missing_extra

_ERROR_ROOTS = (
    ("fedmedlora_core.errors", "CoreError"),
    ("fedmedlora_audit.errors", "AuditError"),
    ("fedmedlora_crypto.errors", "CryptoError"),
    ("fedmedlora_coordinator.errors", "CoordinatorError"),
    ("fedmedlora_site.errors", "SiteError"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the console script.

    Args:
        argv: Arguments without the program's name; the process's own when None.

    Raises:
        SystemExit: Always, with the documented exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments[:1]
    if debug:
        arguments = arguments[1:]
    try:
        build_app(arguments)(args=arguments, prog_name="fedmedlora")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as exc:
        if debug:
            raise
        sys.exit(_report(exc, arguments))
    sys.exit(0)


def _report(exc: Exception, arguments: Sequence[str]) -> int:
    """Print one line for a known error; an unknown one is a bug of ours and says so."""
    extra = missing_extra(arguments, exc) if isinstance(exc, ModuleNotFoundError) else None
    if extra is not None:
        sys.stderr.write(f"error: {extra}\n")
        return 2
    if isinstance(exc, (*_known_errors(), OSError)):
        sys.stderr.write(f"error: {_one_line(exc)}\n")
        return _exit_code(exc)
    sys.stderr.write(
        f"error: unexpected {type(exc).__name__}; run `fedmedlora --debug …` for the trace and report it\n"
    )
    return 2


def _exit_code(exc: Exception) -> int:
    """1 for a refusal, else 2, unless the error's class says otherwise."""
    if type(exc).__name__ == "PolicyRefusal":
        return 1
    code = getattr(exc, "exit_code", 2)
    return code if isinstance(code, int) else 2


def _one_line(exc: Exception) -> str:
    """Message of an error on one line."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror)
    return " ".join(str(exc).split())


def _known_errors() -> tuple[type[Exception], ...]:
    """Error roots of the packages that are loaded; what is not loaded raised nothing."""
    found = []
    for module, name in _ERROR_ROOTS:
        if module in sys.modules:
            found.append(getattr(importlib.import_module(module), name))
    return tuple(found)


if __name__ == "__main__":
    main()
