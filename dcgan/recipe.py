"""What is trained and how: one frozen model, and the three recipes that the project recommends.

A recipe says everything about a training except its data, its seed and its device.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

LATENT_SIZE = 100
IMAGE_SIZE = 28
IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 1)
# R1 need not be computed in every step (Karras et al., https://arxiv.org/abs/1912.04958, section 3.1)
PENALTY_INTERVAL = 4

RecipeName = Literal["fast", "classic", "smoke"]
Convolution = Literal["auto", "direct", "dft"]
Precision = Literal["float32", "mixed_bfloat16"]  # float16 would need a loss scale; bfloat16 has float32's range


class Recipe(BaseModel):
    """The hyperparameters of one training."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="what the run is called")
    epochs: PositiveInt = Field(description="passes over the training images")
    batch_size: PositiveInt = Field(description="real images in a step, and as many generated ones")
    generator_learning_rate: PositiveFloat = Field(description="of the generator's Adam")
    discriminator_learning_rate: PositiveFloat = Field(description="of the discriminator's Adam")
    beta_1: float = Field(ge=0, lt=1, description="decay of Adam's first moment, both networks")
    beta_2: float = Field(default=0.999, ge=0, lt=1, description="decay of Adam's second moment, both networks")
    leaky_slope: float = Field(default=0.3, ge=0, lt=1, description="of both networks' rectifiers, below zero")
    dropout_rate: float = Field(default=0.3, ge=0, le=0.99, description="of the discriminator's maps")
    hidden_units: PositiveInt | None = Field(
        default=None, description="of a dense layer between the discriminator's maps and its logit; None = none"
    )
    gradient_penalty: float = Field(default=0, ge=0, description="gamma of the discriminator's R1; 0 = none")
    checkpoint_every: PositiveInt = Field(description="epochs between checkpoints; the last epoch always has one")
    max_images: PositiveInt | None = Field(default=None, description="train on the first so many images; None = all")
    shuffle_images: PositiveInt = Field(
        default=65_536,
        description="images that are shuffled together and held on the device; "
        "a larger set streams from the disk in parts of this size",
    )
    decay_from: float = Field(
        default=1.0, ge=0, le=1, description="share of the training after which both learning rates fall to zero"
    )
    average_half_life_images: PositiveInt | None = Field(
        default=None, description="half-life of the generator's averaged weights, in real images; None = not averaged"
    )
    evaluate_every: PositiveInt | None = Field(default=None, description="epochs between evaluations; None = never")
    releases: Literal["last", "best"] = Field(default="last", description="the state whose generator is registered")
    convolution: Convolution = Field(default="auto", description="how the large convolutions are computed")
    precision: Precision = Field(default="float32", description="Keras dtype policy of both networks")


# The seed to the letter. 50 epochs of 234 steps.
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

# What we recommend: smaller batches, averaged weights, rates that fall in the second half, and a discriminator that
# sees the whole picture at once and has a gradient penalty, under which both networks can learn twenty times as fast.
# 6 epochs of 937 steps. docs/decisions/fast.md tells what was tried.
# beta_1 = 0.5: Radford et al., https://arxiv.org/abs/1511.06434, section 4, found 0.9 to oscillate.
FAST = Recipe(
    name="fast",
    epochs=6,
    batch_size=64,
    generator_learning_rate=2e-3,
    discriminator_learning_rate=2e-3,
    beta_1=0.5,
    leaky_slope=0.01,
    dropout_rate=0,
    hidden_units=256,
    gradient_penalty=1,
    checkpoint_every=3,
    decay_from=0.5,
    average_half_life_images=40_000,
    evaluate_every=1,
    releases="best",
)

# A few seconds on real digits, for tests and for looking: 2 epochs of 8 steps, nothing evaluated.
SMOKE = FAST.model_copy(
    update={
        "name": "smoke",
        "epochs": 2,
        "max_images": 512,
        "checkpoint_every": 1,
        "average_half_life_images": 512,
        "evaluate_every": None,
        "releases": "last",
    }
)

RECIPES: dict[RecipeName, Recipe] = {"fast": FAST, "classic": CLASSIC, "smoke": SMOKE}
