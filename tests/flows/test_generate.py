"""Generating as a flow and as a command."""

import pytest

from dcgan.rendering import read_png
from flows.generate import dcgan_generate, main

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_the_command_says_where_the_pictures_are(in_service, tmp_path, capsys):
    """Exit code 0, and one line with version, seed and place."""
    out = tmp_path / "grid.png"
    assert main(["--version", "2", "--count", "4", "--seed", "5", "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"4 pictures of version 2, seed 5: {out}\n")
    assert read_png(out.read_bytes()).shape == (56, 56)


@pytest.mark.usefixtures("in_service")
def test_the_flow_has_defaults_for_everything():
    """Sixty-four pictures of the champion, in the state folder: what the deployment does when told nothing."""
    made = dcgan_generate()
    assert (made.version, made.count) == (1, 64)
    assert read_png(made.out.read_bytes()).shape == (224, 224)


@pytest.mark.usefixtures("in_service")
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--count", "0"], 2, "--count: input should be greater than or equal to 1, not '0'."),
        (["--count", "2000001"], 2, "--count: input should be less than or equal to 2000000, not '2000001'."),
        (["--seed", "-1"], 2, "--seed: input should be greater than or equal to 0, not '-1'."),
        (["--version", "nobody"], 1, "The model dcgan-generator has no alias nobody; "),
        (["--count", "10001", "--out", "OUT.png"], 1, "OUT.png: cannot hold 10001 images; expected at most 10000."),
        (["--out", "OUT.gif"], 1, "OUT.gif: cannot be written; expected a folder, or a name in .png or .parquet."),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, arguments, code, sentence):
    """What cannot be done is said, and nothing is written."""
    place = str(tmp_path / "OUT")
    assert main([argument.replace("OUT", place) for argument in arguments]) == code
    assert f"error: {sentence}".replace("OUT", place) in capsys.readouterr().err
    assert not list(tmp_path.glob("OUT*"))
