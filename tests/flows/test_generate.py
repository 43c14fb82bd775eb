"""Generating as a flow and as a command."""

import pytest
from imageio.v3 import imread

from flows.cli import main
from flows.generate import dcgan_generate
from tasks.results import Generated

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_the_command_prints_where_the_images_are(in_service, tmp_path, capsys):
    """Exit code 0, and one line with version, seed and path, which `--summary` writes as JSON too."""
    out, file = tmp_path / "grid.png", tmp_path / "new folder" / "summary.json"
    arguments = ["--version", "2", "--count", "4", "--seed", "5", "--out", str(out), "--summary", str(file)]
    assert main(["generate", *arguments]) == 0
    assert capsys.readouterr().out.endswith(f"4 images of version 2, seed 5: {out}\n")
    assert imread(out).shape == (56, 56)
    assert Generated.model_validate_json(file.read_text()) == Generated(version=2, count=4, seed=5, out=out)


@pytest.mark.usefixtures("in_service")
def test_the_flow_has_defaults_for_everything():
    """Without parameters, as a deployment runs it, the flow writes 64 images of the champion to the state folder."""
    made = dcgan_generate()
    assert (made.version, made.count) == (1, 64)
    assert imread(made.out).shape == (224, 224)


@pytest.mark.usefixtures("in_service")
@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        ("--version 99", "The model dcgan-generator has no version 99; expected the number of a version (the ", 1),
        (
            "--version nobody",
            "The model dcgan-generator has no alias nobody; expected the number of a version (the newest in ",
            1,
        ),
        (
            "--count 10001 --out FOLDER/x.png",
            "FOLDER/x.png: cannot contain 10001 images; expected at most 10000.",
            2,
        ),
        (
            "--out FOLDER/x.gif",
            "FOLDER/x.gif: cannot be written as .gif; expected .png, .parquet, or the name of a folder without a dot.",
            2,
        ),
        ("--out FOLDER/used", "FOLDER/used: exists; expected the name of a new folder, or an empty one.", 2),
    ],
)
def test_what_cannot_be_generated(arguments, sentence, code, tmp_path, unchanged, error_line):
    """The sentence names the version or the output, and nothing is written; a bad place is a bad argument."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("a thesis")
    with unchanged():
        assert main(["generate", *arguments.replace("FOLDER", str(tmp_path)).split()]) == code
    assert error_line().startswith(sentence.replace("FOLDER", str(tmp_path)))
