"""What an evaluation found, as values that turn into metrics and JSON and back."""

from pydantic import BaseModel, ConfigDict, Field

from dcgan.quality.noise import Estimate


class QuickReport(BaseModel):
    """The figures that are cheap enough for every epoch; they compare only with figures of equally many images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluator: str = Field(description="digest of the weights of the classifier that looked")
    reference: str = Field(description="digest of the test images that it was compared with")
    images: int = Field(description="how many images were evaluated")
    frechet_distance: Estimate = Field(
        description="from the test images, in the classifier's features; lower is better"
    )
    kernel_distance: Estimate = Field(description="likewise, unbiased; may fall below zero; lower is better")
    class_counts: tuple[int, ...] = Field(description="images of each class, as the classifier sees them")
    class_divergence: Estimate = Field(description="of the classes' shares from even ones, in nats; 0 is even")
    missing_classes: Estimate = Field(description="classes with less than a tenth of an even share")
    confidence: Estimate = Field(description="mean probability of the most probable class")
    unsure_share: Estimate = Field(description="share of images that no class has with 0.9 or more")

    def estimates(self) -> dict[str, Estimate]:
        """Return every figure that has a noise, by its name."""
        return {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), Estimate)}

    def metrics(self) -> dict[str, float]:
        """Return every figure by its name, its noise as NAME_noise, and each class's share as class_N_share."""
        figures = self.estimates()
        return {
            **{name: estimate.value for name, estimate in figures.items()},
            **{f"{name}_noise": estimate.noise for name, estimate in figures.items()},
            **{f"class_{label}_share": count / self.images for label, count in enumerate(self.class_counts)},
        }


class QualityReport(QuickReport):
    """Every figure."""

    density: Estimate = Field(description="how far the images lie among the test images; the test images' own is 1")
    coverage: Estimate = Field(description="share of test images that some image lies near; higher is better")
    nearest_distance_ratio: Estimate = Field(
        description="median distance from the nearest training image, over that of the test images; copies have 0"
    )
    copied_share: Estimate = Field(
        description="share of images nearer to a training image than 99 % of the test images are; theirs is 0.01"
    )
