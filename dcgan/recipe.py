"""The hyperparameters of a training run as one frozen model, and the three recipes that the project recommends.

A recipe says everything about a training run except its data, its seed and its device.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from dcgan.errors import ConfigurationError, invalid_value

LATENT_SIZE = 100
IMAGE_SIZE = 28
IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 1)
# R1 need not be computed in every step (Karras et al., https://arxiv.org/abs/1912.04958, section 3.1)
PENALTY_INTERVAL = 4

RecipeName = Literal["fast", "classic", "smoke"]
DeviceChoice = Literal["auto", "cpu", "gpu"]
Convolution = Literal["auto", "direct", "dft"]
Precision = Literal["float32", "mixed_bfloat16"]  # float16 would need a loss scale; bfloat16 has float32's range
PrecisionChoice = Literal["auto", "float32", "mixed_bfloat16"]


class Recipe(BaseModel):
    """The hyperparameters of one training run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Name of the recipe, which also names its runs"
    )
    epochs: PositiveInt = Field(description="Number of passes over the training images")
    batch_size: PositiveInt = Field(description="Batch size of both real and generated images")
    generator_learning_rate: PositiveFloat = Field(description="Initial learning rate of the generator's Adam")
    discriminator_learning_rate: PositiveFloat = Field(description="Initial learning rate of the discriminator's Adam")
    beta_1: float = Field(ge=0, lt=1, description="Decay of Adam's first moment, for both networks")
    beta_2: float = Field(default=0.999, ge=0, lt=1, description="Decay of Adam's second moment, for both networks")
    negative_slope: float = Field(
        default=0.3, ge=0, lt=1, description="Slope of the leaky rectifiers below zero, in both networks"
    )
    dropout_rate: float = Field(
        default=0.3, ge=0, le=0.99, description="Dropout rate after both convolutions of the discriminator"
    )
    discriminator_maps: PositiveInt = Field(
        default=64,
        description="Feature maps of the discriminator's first convolution; the second has twice as many",
    )
    hidden_units: PositiveInt | None = Field(
        default=None,
        description="Units of a dense layer between the discriminator's feature maps and its logit; None leaves it out",
    )
    r1_gamma: float = Field(
        default=0, ge=0, description="Weight gamma of the discriminator's R1 gradient penalty; 0 switches it off"
    )
    checkpoint_every: PositiveInt = Field(
        description="Number of epochs between uploaded checkpoints; the last epoch always has one"
    )
    max_images: PositiveInt | None = Field(
        default=None, description="Number of training images to use, from the first on; None uses all"
    )
    shuffle_buffer_images: PositiveInt = Field(
        default=65_536,
        description="Number of images that are shuffled together and held on the device; "
        "a larger dataset streams from disk in chunks of this size",
    )
    decay_start: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Fraction of the training run after which both learning rates decay linearly to zero",
    )
    ema_half_life_images: PositiveInt | None = Field(
        default=None,
        description="Half-life of the exponential moving average of the generator's weights, in real images; "
        "None keeps no average",
    )
    ema_ramp_up: float = Field(
        default=0.05,
        gt=0,
        description="Longest half-life of that average as a fraction of the images seen so far, "
        "so that it forgets the beginning",
    )
    evaluate_every: PositiveInt | None = Field(
        default=None, description="Number of epochs between evaluations; None never evaluates"
    )
    checkpoint_selection: Literal["last", "best"] = Field(
        default="last",
        description="Which epoch's generator is registered: the last, or the one with the lowest Fréchet distance",
    )
    convolution: Convolution = Field(
        default="auto", description="How the large convolutions are computed; auto chooses by device"
    )
    precision: PrecisionChoice = Field(
        default="float32",
        description="Keras dtype policy of both networks; auto is mixed_bfloat16 on a processor with instructions "
        "for it, else float32",
    )

    @model_validator(mode="after")
    def _require_an_evaluation_for_the_best(self) -> Self:
        if self.checkpoint_selection == "best" and self.evaluate_every is None:
            raise ValueError("checkpoint_selection=best needs evaluations; expected a number for evaluate_every.")
        return self

    def changed(self, changes: Mapping[str, object]) -> "Recipe":
        """Return this recipe with other values for some of its hyperparameters.

        Raises:
            ConfigurationError: A name is not a hyperparameter, or a value is not valid for it.
        """
        require_hyperparameters(changes)
        try:
            return Recipe.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            where = error.errors()[0]["loc"]
            raise ConfigurationError(invalid_value(str(where[0]) if where else f"recipe {self.name}", error)) from None


def require_hyperparameters(names: Iterable[str]) -> None:
    """Refuse a name that is not a hyperparameter, with the one that was probably meant.

    Raises:
        ConfigurationError: There is no hyperparameter of that name.
    """
    for name in names:
        if name in ("latent_size", "image_size", "image_shape"):
            raise ConfigurationError(
                f"{name} cannot be changed: every registered model has the same signature, {LATENT_SIZE} latents and "
                f"images of {IMAGE_SIZE}x{IMAGE_SIZE} pixels."
            )
        if name not in Recipe.model_fields:
            close = get_close_matches(name, Recipe.model_fields, n=1)
            expected = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(Recipe.model_fields)}."
            raise ConfigurationError(f"There is no hyperparameter {name!r}; {expected}")


# The reference implementation to the letter. 50 epochs of 234 steps.
CLASSIC = Recipe(
    name="classic",
    epochs=50,
    batch_size=256,
    generator_learning_rate=1e-4,
    discriminator_learning_rate=1e-4,
    beta_1=0.9,
    checkpoint_every=15,
    evaluate_every=1,
)

# What we recommend: small batches, averaged weights, constant learning rates, and a narrow discriminator that sees the
# whole image at once and has a gradient penalty, under which both networks can learn twenty times as fast. 4 epochs of
# 1,875 steps. docs/decisions/fast.md lists what was tried.
# beta_1 = 0 and beta_2 = 0.99: Karras et al., https://arxiv.org/abs/1710.10196, appendix A.1.
FAST = Recipe(
    name="fast",
    epochs=4,
    batch_size=32,
    generator_learning_rate=2e-3,
    discriminator_learning_rate=2e-3,
    beta_1=0,
    beta_2=0.99,
    negative_slope=0.01,
    dropout_rate=0,
    discriminator_maps=32,
    hidden_units=256,
    r1_gamma=1,
    checkpoint_every=2,
    ema_half_life_images=40_000,
    ema_ramp_up=0.1,
    evaluate_every=1,
    checkpoint_selection="best",
    precision="auto",
)

# A quick run on real digits, for tests and for a first look: 2 epochs of 16 steps, nothing evaluated.
SMOKE = FAST.model_copy(
    update={
        "name": "smoke",
        "epochs": 2,
        "max_images": 512,
        "checkpoint_every": 1,
        "ema_half_life_images": 512,
        "evaluate_every": None,
        "checkpoint_selection": "last",
        "precision": "float32",  # so few steps take as long either way
    }
)

RECIPES: dict[RecipeName, Recipe] = {"fast": FAST, "classic": CLASSIC, "smoke": SMOKE}
