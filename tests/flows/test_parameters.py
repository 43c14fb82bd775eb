"""The parameters of the flow: one model for Prefect's form, the command line and the tests."""

import pytest
from prefect.utilities.schema_tools.validation import validate
from pydantic import BaseModel, Field, ValidationError

from dcgan.recipe import RECIPES
from flows.evaluate import dcgan_evaluate
from flows.generate import dcgan_generate
from flows.parameters import EvaluateParameters, GenerateParameters, PromoteParameters, TrainParameters, takes
from flows.promote import dcgan_promote
from flows.train import dcgan


@pytest.mark.parametrize(
    ("flow", "model"),
    [
        (dcgan, TrainParameters),
        (dcgan_evaluate, EvaluateParameters),
        (dcgan_promote, PromoteParameters),
        (dcgan_generate, GenerateParameters),
    ],
)
def test_prefects_form_is_the_model(flow, model):
    """Every field is a parameter of the flow, with its default and its description."""
    schema = flow.parameters.model_dump()["properties"]
    fields = model.model_fields
    assert schema.keys() == fields.keys()
    assert {name: field.get("default") for name, field in schema.items()} == {n: f.default for n, f in fields.items()}
    assert {name: field["description"] for name, field in schema.items()} == {
        name: field.description for name, field in fields.items()
    }


def test_prefects_form_refuses_what_the_model_refuses():
    """Bounds and choices are in the schema, so the form itself refuses."""
    schema = dcgan.parameters.model_dump()["properties"]
    assert schema["recipe"]["enum"] == list(RECIPES)
    assert {"minimum": 1, "type": "integer"} in schema["epochs"]["anyOf"]
    assert schema["device"]["enum"] == ["auto", "cpu", "gpu"]


@pytest.mark.parametrize("flow", [dcgan, dcgan_evaluate])
@pytest.mark.parametrize("source", ["http://user:secret@host/x", "https://token@host", "s3://key:secret@bucket/x"])
def test_prefect_itself_refuses_a_password(flow, source):
    """A flow run with credentials in its source is refused before Prefect's server stores its parameters."""
    schema = flow.parameters.model_dump()
    assert validate({"source": "https://host/user@x"}, schema) == []
    (error,) = validate({"source": source}, schema)
    assert list(error.path) == ["source"]
    assert error.validator == "pattern"


@pytest.mark.parametrize("version", [3, "3", "champion", "v-2_x"])
def test_a_version_is_a_number_or_an_alias(version):
    """Prefect's command line gives a number, this project's a text, a person perhaps an alias."""
    assert EvaluateParameters(version=version).version == (3 if version == "3" else version)


@pytest.mark.parametrize("version", [0, -1, "0", "", "../x", "a b", 1.5, None])
def test_what_is_no_version_is_refused(version):
    """Nothing else reaches the registry."""
    with pytest.raises(ValidationError):
        GenerateParameters(version=version)


def test_epochs_replace_the_recipes():
    """`epochs` changes nothing else of the recipe."""
    resolved = TrainParameters(recipe="classic", epochs=3).resolved_recipe()
    assert resolved == RECIPES["classic"].model_copy(update={"epochs": 3})
    assert TrainParameters(recipe="classic").resolved_recipe() == RECIPES["classic"]


def test_unknown_parameters_are_refused():
    """A misspelt parameter is an error, not a default."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        TrainParameters(epoch=3)


def test_takes_hands_the_body_a_model():
    """The body gets one value that is validated; the outside sees keyword parameters."""

    class Parameters(BaseModel):
        count: int = Field(1, ge=1, description="how many")

    @takes(Parameters)
    def body(parameters: Parameters) -> int:
        """Return the count."""
        return parameters.count

    assert body() == 1
    assert body(count=3) == 3
    with pytest.raises(ValidationError):
        body(count=0)
