"""The results of an evaluation, as values that convert to metrics and to JSON and back."""

from pydantic import BaseModel, ConfigDict, Field

from dcgan.evaluation.metrics import Estimate


class QuickReport(BaseModel):
    """The metrics that are cheap enough for every epoch; they compare only with metrics of equally many images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classifier: str = Field(description="Digest of the weights of the classifier that the metrics were computed with")
    reference: str = Field(description="Digest of the test images that the images were compared with")
    images: int = Field(description="Number of images that were evaluated")
    frechet_distance: Estimate = Field(
        description="Fréchet distance from the test images in the classifier's features; lower is better"
    )
    kernel_distance: Estimate = Field(
        description="Kernel distance from the test images; unbiased, so it may be negative; lower is better"
    )
    class_counts: tuple[int, ...] = Field(description="Number of images of each class, as the classifier predicts them")
    reference_class_counts: tuple[int, ...] = Field(description="Number of test images of each class, by their labels")
    class_divergence: Estimate = Field(
        description="Divergence of the class fractions from those of the test images, in nats; 0 is equal"
    )
    missing_classes: Estimate = Field(
        description="Number of classes with less than a tenth of the images that the test images lead to expect"
    )
    confidence: Estimate = Field(description="Mean probability of the most probable class")
    low_confidence_fraction: Estimate = Field(
        description="Fraction of images to which no class is assigned with a probability of 0.9 or more"
    )

    def estimates(self) -> dict[str, Estimate]:
        """Return the metrics that have a standard error, by name."""
        return {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), Estimate)}

    def metrics(self) -> dict[str, float]:
        """Return each metric by its name, without its standard error."""
        return {name: estimate.value for name, estimate in self.estimates().items()}


class QualityReport(QuickReport):
    """All metrics."""

    density: Estimate = Field(
        description="How densely test images surround the generated images; real images have about 1"
    )
    coverage: Estimate = Field(description="Fraction of test images with a generated image nearby; higher is better")
    nearest_distance_ratio: Estimate = Field(
        description="Median distance from the nearest training image, divided by that of the test images; 0 for copies"
    )
    memorized_fraction: Estimate = Field(
        description="Fraction of images nearer to a training image than 99 % of the test images; theirs is 0.01"
    )


class Baselines(BaseModel):
    """Reference baselines: reports of images of known quality, from one classifier and one set of test images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: QualityReport = Field(description="Training images: the best possible distances, but all are copies")
    noisy: QualityReport = Field(description="Test images with Gaussian noise")
    blurred: QualityReport = Field(description="Test images with a Gaussian blur")
    untrained: QualityReport = Field(description="Images of a generator with its initial weights")
