"""The playground: a page that runs the generator in a browser, opened from disk in a real Chromium."""

import base64
import gzip
import os
import re
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dcgan.errors import ModelError
from dcgan.images import to_uint8
from dcgan.model.networks import build_generator
from dcgan.recipe import CLASSIC
from dcgan.report.playground import latent_directions, packed_weights, render_playground
from dcgan.rng import fixed_latents
from tests.service_stack import wait_until
from tests.web import Web, respond

LATENTS = fixed_latents(4, 3, 100)
TOLERANCE = 1e-4  # of pixels in [-1, 1]
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
FOCUS = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element.type === "radio" ? element.nextElementSibling : element);
  return [element.id || element.name, style.outlineStyle, parseFloat(style.outlineWidth)];
}"""


@pytest.fixture(scope="module")
def generator() -> keras.Model:
    """Return a generator whose batch normalizations have statistics and images have contrast, as after training."""
    generator = build_generator(3, recipe=CLASSIC.changed({"negative_slope": 0.2}))
    rng = np.random.default_rng(0)
    for name, variance in (("project", 0.02), ("refine", 1.0), ("to_14x14", 1.0)):
        norm = generator.get_layer(f"{name}_norm")
        channels = norm.gamma.shape[0]
        norm.set_weights(
            [
                rng.uniform(0.5, 2, channels),
                rng.uniform(-0.5, 0.5, channels),
                rng.uniform(-0.1, 0.1, channels),
                variance * rng.uniform(0.5, 2, channels),
            ]
        )
    return generator


@pytest.fixture(scope="module")
def html(generator, hostile) -> str:
    """Return the generator's page; one of its facts is hostile."""
    return render_playground(generator, "Playground", {"Recipe": "smoke", "Dataset": hostile})


def test_everything_is_escaped(html, hostile):
    """A name that looks like markup is text, and only the page's own script may run."""
    assert hostile not in html
    assert "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;" in html
    assert "{{ 7 * 7 }}" in html
    scripts = re.findall(r"<script([^>]*)>", html)
    assert [attributes.split("=")[0].strip() for attributes in scripts] == ["id", ""]
    assert "'unsafe-inline'; base-uri" in html
    assert "script-src 'sha256-" in html


def test_the_page_is_small(html):
    """It is less than 12 MB."""
    assert 1_000_000 < len(html) < 12_000_000


def test_the_same_generator_gives_the_same_page(generator):
    """Nothing in the weights' text depends on when it was made."""
    assert packed_weights(generator) == packed_weights(generator)


def test_weights_are_complete(generator):
    """All of them are there, in float32, with a bias instead of each batch normalization."""
    planes = np.frombuffer(gzip.decompress(base64.b64decode(packed_weights(generator))), np.uint8)
    values = planes.reshape(4, -1).T.copy().view("<f4").ravel()
    norms = (12544, 128, 64)
    assert len(values) == generator.count_params() - 4 * sum(norms) + sum(norms) + 6 * 100
    np.testing.assert_array_equal(values[-600 - 1600 : -600], generator.get_layer("to_28x28").get_weights()[0].ravel())


def test_directions_change_the_first_layer_most():
    """They are orthonormal, and no other direction changes the layer's outputs more."""
    kernel = np.random.default_rng(1).standard_normal((100, 500)) * np.linspace(0.1, 2, 100)[:, None]
    directions = latent_directions(kernel)
    np.testing.assert_allclose(directions @ directions.T, np.eye(6), atol=1e-12)
    changes = np.linalg.norm(directions @ kernel, axis=1)
    np.testing.assert_allclose(changes, np.linalg.svd(kernel, compute_uv=False)[:6])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a Chromium."""
    chromium = shutil.which("chromium")
    assert chromium, "make test-browser needs Chromium, the package chromium of Debian"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's does not work for root
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        yield started
        started.close()


@pytest.fixture
def opened(request, browser, html, tmp_path) -> Iterator[Page]:
    """Return the page, opened from disk and ready; it must not log, fail or request anything.

    The parameter of the fixture is the width of the window.
    """
    file = tmp_path / "playground.html"
    file.write_text(html)
    tab = browser.new_page(viewport={"width": getattr(request, "param", 1200), "height": 900})
    messages: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on("request", lambda sent: requests.append(sent.url))
    tab.goto(file.as_uri())
    expect(tab.locator("#status")).to_contain_text("Sixteen images of seed 0", timeout=60_000)
    yield tab
    assert messages == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
    tab.close()


def pixels(tab: Page, selector: str) -> np.ndarray:
    """Return what a canvas shows, uint8 (28, 28)."""
    url = tab.evaluate("selector => document.querySelector(selector).toDataURL()", selector)
    with Image.open(BytesIO(base64.b64decode(url.split(",")[1]))) as image:
        return np.asarray(image.convert("L"))


def text_of(tab: Page) -> str:
    return tab.locator("#caption").inner_text()


@pytest.mark.browser
def test_it_computes_the_generators_images(opened, generator):
    """Every pixel is the generator's, for given latents."""
    expected = np.asarray(generator(LATENTS, training=False))[..., 0]
    assert expected.std() > 0.1
    assert np.abs(expected).max() < 1
    for latents, image in zip(LATENTS, expected, strict=True):
        found = opened.evaluate("async latents => Array.from(await generate(latents))", latents.tolist())
        np.testing.assert_allclose(np.reshape(found, (28, 28)), image, rtol=0, atol=TOLERANCE)


@pytest.mark.browser
@pytest.mark.parametrize("latents", ["[]", "Array(99).fill(0)", "Array(100).fill(NaN)", "Array(100).fill('1')"])
def test_other_latents_are_refused(opened, latents):
    """One sentence says what was expected."""
    assert opened.evaluate(f"generate({latents}).catch(error => error.message)") == (
        "The latents are not usable; expected 100 finite numbers."
    )


@pytest.mark.browser
@pytest.mark.parametrize("opened", [1200, 375], indirect=True)
def test_it_can_be_used_by_keyboard(opened):
    """Every control is reached by Tab with a visible focus, has a name, and works; at the width of a phone too."""
    assert opened.evaluate(OVERFLOW) <= 0
    reached = []
    for _ in range(13):
        opened.keyboard.press("Tab")
        name, style, width = opened.evaluate(FOCUS)
        reached.append(name)
        assert (style, width) == ("solid", 3.0), name
    assert reached == [
        "seed",
        "new-seed",
        "sample",
        "download",
        "reset",
        *(f"direction-{index}" for index in range(6)),
        "target",
        "fraction",
    ]
    opened.get_by_role("radio", name="Sample 1", exact=True).focus()
    before = pixels(opened, "#image")
    opened.keyboard.press("ArrowRight")
    assert text_of(opened) == "Sample 2 of seed 0"
    second = pixels(opened, "#image")
    assert not np.array_equal(second, before)
    opened.get_by_role("slider", name="Direction 3", exact=True).focus()
    for _ in range(20):
        opened.keyboard.press("ArrowRight")
    expect(opened.locator("#caption")).to_have_text("Sample 2 of seed 0, moved along the directions")
    expect(opened.locator("output[for=direction-2]")).to_have_text("+2.0")
    assert not np.array_equal(pixels(opened, "#image"), second)
    opened.get_by_role("button", name="Reset").press("Enter")
    expect(opened.locator("#caption")).to_have_text("Sample 2 of seed 0")
    np.testing.assert_array_equal(pixels(opened, "#image"), second)


@pytest.mark.browser
def test_interpolation_ends_at_the_other_sample(opened):
    """At 100 % the image is the other sample, and the strip leads from one to the other."""
    opened.get_by_label("To sample").select_option("9")
    opened.get_by_role("slider", name="Position").fill("100")
    expect(opened.locator("#caption")).to_have_text("Sample 1 of seed 0, 100 % of the way to sample 9")
    other = pixels(opened, ".samples label:nth-child(9) canvas")
    assert np.abs(pixels(opened, "#image").astype(int) - other).max() <= 1
    wait_until(
        "the end of the strip",
        lambda: np.abs(pixels(opened, ".strip canvas:last-child").astype(int) - other).max() <= 1,
    )
    first = pixels(opened, ".samples label:first-child canvas")
    np.testing.assert_array_equal(pixels(opened, ".strip canvas:first-child"), first)
    assert opened.locator("#target option:checked").inner_text() == "9"
    assert opened.locator("#target option:disabled").all_inner_texts() == ["1"]


@pytest.mark.browser
def test_a_seed_gives_its_samples_again(opened):
    """A new seed gives other samples, the former one the same again, and what is not a seed nothing."""
    first = pixels(opened, ".samples label:nth-child(16) canvas")
    opened.get_by_role("button", name="New seed").click()
    opened.locator(".samples label").nth(2).click()  # while they are drawn
    seed = opened.get_by_label("Seed", exact=True)
    expect(opened.locator("#status")).to_contain_text(f"Sixteen images of seed {seed.input_value()},")
    assert not np.array_equal(pixels(opened, ".samples label:nth-child(16) canvas"), first)
    seed.fill("-1")
    seed.press("Enter")
    assert "seed -1" not in text_of(opened)
    seed.fill("0")
    seed.press("Enter")
    expect(opened.locator("#status")).to_contain_text("Sixteen images of seed 0,")
    np.testing.assert_array_equal(pixels(opened, ".samples label:nth-child(16) canvas"), first)


@pytest.mark.browser
def test_the_selected_sample_is_downloaded(opened):
    """The PNG is what is shown, ten times as large."""
    opened.locator(".samples label").nth(4).click()
    with opened.expect_download() as download:
        opened.get_by_role("button", name="Download PNG").click()
    assert download.value.suggested_filename == "dcgan-seed-0-sample-5.png"
    with Image.open(BytesIO(Path(download.value.path()).read_bytes())) as image:
        assert image.size == (280, 280)
        found = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(found[::10, ::10], pixels(opened, "#image"))
    np.testing.assert_array_equal(found, found[::10, ::10].repeat(10, 0).repeat(10, 1))


@pytest.mark.browser
def test_pixels_are_grey_as_in_png_files(opened, generator):
    """A canvas has the same bytes as the images of `dcgan generate` would have, but for rounding."""
    opened.evaluate(
        "async latents => draw(document.getElementById('image'), await generate(latents))", LATENTS[0].tolist()
    )
    expected = to_uint8(np.asarray(generator(LATENTS[:1], training=False))[0, ..., 0])
    assert np.abs(pixels(opened, "#image").astype(int) - expected).max() <= 1


@pytest.mark.browser
def test_no_script_in_it_could_send_anything(browser, html, tmp_path, web: Web):
    """The page's policy refuses what another page may do: a request to a server that answers."""
    web.answer("/", respond(b"ok"))
    file = tmp_path / "playground.html"
    file.write_text(html)
    send = "address => fetch(address, {mode: 'no-cors'}).then(() => 'sent', () => 'refused')"
    tab = browser.new_page()
    tab.goto(file.as_uri())
    assert tab.evaluate(send, web.address) == "refused"
    assert web.asked == []
    tab.goto(web.address)
    assert tab.evaluate(send, web.address) == "sent"
    tab.close()


def test_the_playground_refuses_a_network_that_it_does_not_know():
    """Its page would show other images than the generator's."""
    generator = build_generator()
    layers = [generator.inputs[0], *generator.layers, keras.layers.Activation("tanh", name="mine")]
    with pytest.raises(ModelError, match=r"^The playground does not know the generator's layers mine; expected"):
        render_playground(keras.Sequential(layers, name="generator"), "title", {})


def test_the_playground_refuses_a_layer_of_another_size():
    """The script has the sizes, too."""
    generator = build_generator()
    layers = [layer for layer in generator.layers if layer.name != "to_28x28"]
    wider = keras.layers.Conv2DTranspose(3, 5, 2, padding="same", activation="tanh", use_bias=False, name="to_28x28")
    with pytest.raises(
        ModelError, match=r"knows the layer to_28x28 with a kernel \(5, 5, 1, 64\), not \(5, 5, 3, 64\)"
    ):
        render_playground(keras.Sequential([generator.inputs[0], *layers, wider], name="generator"), "title", {})
