"""The reference implementation in PyTorch, and what `fast` adds: channels-last memory, and Adam in one kernel.

It runs in an environment of its own.
"""

from collections.abc import Callable
from itertools import count, islice

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from benchmarks.worker import serve

IMAGES = 8192
# of `fast`
DISCRIMINATOR_MAPS = 32
HIDDEN_UNITS = 256
R1_GAMMA = 1.0
PENALTY_INTERVAL = 4
STATISTICS = {"eps": 1e-3, "momentum": 0.01}  # Keras' defaults


class Generator(nn.Module):
    """The reference implementation's generator: latents (n, 100) to images (n, 1, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(100, 7 * 7 * 256, bias=False), nn.BatchNorm1d(7 * 7 * 256, **STATISTICS), nn.LeakyReLU(0.3)
        )
        self.maps = nn.Sequential(
            nn.ConvTranspose2d(256, 128, 5, stride=1, padding=2, bias=False),
            nn.BatchNorm2d(128, **STATISTICS),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(128, 64, 5, stride=2, padding=2, output_padding=1, bias=False),
            nn.BatchNorm2d(64, **STATISTICS),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(64, 1, 5, stride=2, padding=2, output_padding=1, bias=False),
            nn.Tanh(),
        )

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Return images (n, 1, 28, 28) for latents (n, 100)."""
        maps = self.project(latents).view(-1, 256, 7, 7)
        return self.maps(maps.contiguous(memory_format=torch.channels_last))


def make_discriminator(recipe: str) -> nn.Module:
    """Return the discriminator of the reference or of `fast`: images (n, 1, 28, 28) to logits (n, 1)."""
    dropout = [] if recipe == "fast" else [nn.Dropout(0.3)]
    maps = DISCRIMINATOR_MAPS if recipe == "fast" else 64
    hidden = [nn.Linear(7 * 7 * 2 * maps, HIDDEN_UNITS), nn.LeakyReLU(0.3)] if recipe == "fast" else []
    return nn.Sequential(
        nn.Conv2d(1, maps, 5, stride=2, padding=2),
        nn.LeakyReLU(0.3),
        *dropout,
        nn.Conv2d(maps, 2 * maps, 5, stride=2, padding=2),
        nn.LeakyReLU(0.3),
        *dropout,
        nn.Flatten(),
        *hidden,
        nn.Linear(HIDDEN_UNITS if hidden else 7 * 7 * 2 * maps, 1),
    )


def r1_penalty(discriminator: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the R1 penalty at images, which is differentiated once more."""
    images = images.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return R1_GAMMA / 2 * PENALTY_INTERVAL * gradients.square().sum(dim=(1, 2, 3)).mean()


def make(batch_size: int, recipe: str, device: str = "cpu", precision: str = "float32") -> Callable[[int], None]:
    """Return a function that runs training steps on random batches of images in memory.

    Args:
        batch_size: Number of images in a batch.
        recipe: Name of the recipe.
        device: cpu or cuda.
        precision: float32, which may use TF32 as TensorFlow does, or bfloat16 under autocast.
    """
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch.set_default_device(device)
    generator = Generator().to(memory_format=torch.channels_last)
    discriminator = make_discriminator(recipe).to(memory_format=torch.channels_last)
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-4, fused=True) for net in (generator, discriminator)]
    images = torch.rand(IMAGES, 1, 28, 28) * 2 - 1

    def train_step(real: torch.Tensor, *, penalized: bool) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            generated_logits = discriminator(generator(torch.randn(batch_size, 100)))
            real_logits = discriminator(real)
            ones, zeros = torch.ones_like(real_logits), torch.zeros_like(real_logits)
            discriminator_loss = cross_entropy(real_logits, ones) + cross_entropy(generated_logits, zeros)
            if penalized:
                discriminator_loss = discriminator_loss + r1_penalty(discriminator, real)
            losses = (cross_entropy(generated_logits, ones), discriminator_loss)
        # both from gradients taken before either update, as in the reference implementation
        for network, loss in zip((generator, discriminator), losses, strict=True):
            parameters = list(network.parameters())
            gradients = torch.autograd.grad(loss, parameters, retain_graph=network is generator)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        for optimizer in optimizers:
            optimizer.step()

    taken = count()

    def run(steps: int) -> None:
        for step in islice(taken, steps):
            batch = images[torch.randint(IMAGES, (batch_size,))].contiguous(memory_format=torch.channels_last)
            train_step(batch, penalized=recipe == "fast" and step % PENALTY_INTERVAL == 0)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    serve(make, {"torch": torch.__version__})
