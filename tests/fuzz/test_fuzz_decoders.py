"""Every decoder, on bent valid encodings: it decodes, or raises its one error.

`make fuzz` runs each for longer.
"""

from __future__ import annotations

import pytest

from fedmedlora_testkit import fuzzing
from fedmedlora_testkit.fuzzed import Decoder
from fedmedlora_testkit.fuzzing import DECODERS, run


@pytest.mark.parametrize("name", DECODERS)
def test_bent_encodings_raise_only_the_decoders_own_error(name: str) -> None:
    # R6.1.2
    run(name, 60)


def test_a_decoder_that_fails_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    careless = Decoder(lambda: [b"12"], int, KeyError)
    monkeypatch.setitem(DECODERS, "careless", careless)
    with pytest.raises(ValueError, match="invalid literal"):
        run("careless", 200)


def test_the_command_fuzzes_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzzing.main(["--seconds", "0.01", "share"]) == 0
    assert "share: 300 inputs" in capsys.readouterr().out
