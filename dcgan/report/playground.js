"use strict";

const LATENT_SIZE = 100, SAMPLES = 16, SIDE = 28, PIXELS = SIDE * SIDE, KERNEL = 5, STRIP = 9, DOWNLOAD_SCALE = 10;
const element = id => document.getElementById(id);

// --- the network

// Undo what dcgan/report/playground.py did: base64 of gzip of the floats' first bytes, then their second ones, and so on.
async function readFloats(text) {
  const packed = Uint8Array.from(atob(text), character => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 4, bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < 4; plane++) {
    for (let i = 0, from = plane * count; i < count; i++) bytes[4 * i + plane] = planes[from + i];
  }
  return new Float32Array(bytes.buffer);
}

function readNetwork(floats, slopes) {
  let begin = 0;
  const take = count => floats.subarray(begin, begin += count);
  const transposed = (slope, inputs, outputs, size, stride) => ({
    inputs, outputs, size, stride, slope, taps: taps(size, stride),
    kernel: take(KERNEL * KERNEL * outputs * inputs), bias: take(outputs),
  });
  const units = 7 * 7 * 256;
  const network = {
    project: {units, slope: slopes[0], kernel: take(LATENT_SIZE * units), bias: take(units)},
    refine: transposed(slopes[1], 256, 128, 7, 1),
    to14x14: transposed(slopes[2], 128, 64, 7, 2),
    to28x28: {inputs: 64, size: 14, taps: taps(14, 2), kernel: take(KERNEL * KERNEL * 64)},
    directions: [],
  };
  while (begin < floats.length) network.directions.push(take(LATENT_SIZE));
  return network;
}

// Return, for each position of the kernel, the pixels it reads and the pixels it adds to. Padding is "same".
function taps(size, stride) {
  const padding = stride === 1 ? 2 : 1, wide = size * stride, found = [];
  for (let ky = 0; ky < KERNEL; ky++) {
    for (let kx = 0; kx < KERNEL; kx++) {
      const from = [], to = [];
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          const row = y * stride + ky - padding, column = x * stride + kx - padding;
          if (row < 0 || row >= wide || column < 0 || column >= wide) continue;
          from.push(y * size + x);
          to.push(row * wide + column);
        }
      }
      found.push({from: Int32Array.from(from), to: Int32Array.from(to)});
    }
  }
  return found;
}

function rectify(values, slope) {
  for (let i = 0; i < values.length; i++) if (values[i] < 0) values[i] *= slope;
  return values;
}

function project({units, slope, kernel, bias}, latents) {
  const out = Float32Array.from(bias);
  for (let k = 0; k < LATENT_SIZE; k += 4) {  // four at a time: a quarter of the stores
    const a = latents[k], b = latents[k + 1], c = latents[k + 2], d = latents[k + 3];
    const first = k * units, second = first + units, third = second + units, fourth = third + units;
    for (let i = 0; i < units; i++) {
      out[i] += a * kernel[first + i] + b * kernel[second + i] + c * kernel[third + i] + d * kernel[fourth + i];
    }
  }
  return rectify(out, slope);
}

// A transposed convolution as one matrix product for each position of the kernel. Two pixels times four channels are
// summed in registers: each value that is loaded is used several times.
function transpose({inputs, outputs, size, stride, slope, taps, kernel, bias}, values) {
  const out = new Float32Array((size * stride) ** 2 * outputs);
  for (let i = 0; i < out.length; i += outputs) out.set(bias, i);
  for (let tap = 0; tap < taps.length; tap++) {
    const {from, to} = taps[tap];
    for (let channel = 0; channel < outputs; channel += 4) {
      const begin = (tap * outputs + channel) * inputs;
      for (let pixel = 0; pixel < from.length; pixel += 2) {
        const next = Math.min(pixel + 1, from.length - 1);  // the last of an odd number is computed twice
        const a = from[pixel] * inputs, b = from[next] * inputs;
        let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
        for (let k = 0, w = begin; k < inputs; k++, w += 4) {
          const x = values[a + k], y = values[b + k];
          const w0 = kernel[w], w1 = kernel[w + 1], w2 = kernel[w + 2], w3 = kernel[w + 3];
          a0 += x * w0; a1 += x * w1; a2 += x * w2; a3 += x * w3;
          b0 += y * w0; b1 += y * w1; b2 += y * w2; b3 += y * w3;
        }
        const p = to[pixel] * outputs + channel;
        out[p] += a0; out[p + 1] += a1; out[p + 2] += a2; out[p + 3] += a3;
        if (next === pixel) continue;
        const q = to[next] * outputs + channel;
        out[q] += b0; out[q + 1] += b1; out[q + 2] += b2; out[q + 3] += b3;
      }
    }
  }
  return rectify(out, slope);
}

function toImage({inputs, size, taps, kernel}, values) {
  const out = new Float64Array(PIXELS);
  for (let tap = 0; tap < taps.length; tap++) {
    const {from, to} = taps[tap], begin = tap * inputs;
    for (let pixel = 0; pixel < from.length; pixel++) {
      const a = from[pixel] * inputs;
      let sum = 0;
      for (let k = 0; k < inputs; k++) sum += values[a + k] * kernel[begin + k];
      out[to[pixel]] += sum;
    }
  }
  return Float32Array.from(out, Math.tanh);
}

function run(network, latents) {
  const maps = project(network.project, latents);
  return toImage(network.to28x28, transpose(network.to14x14, transpose(network.refine, maps)));
}

const data = element("weights");
const loaded = readFloats(data.textContent).then(floats => readNetwork(floats, JSON.parse(data.dataset.slopes)));

// Return the image of 100 numbers: 28 rows of 28 pixels from -1 to 1. For the browser's console, and for tests.
window.generate = async latents => {
  if (latents.length !== LATENT_SIZE || !Array.from(latents).every(Number.isFinite)) {
    throw new TypeError(`The latents are not usable; expected ${LATENT_SIZE} finite numbers.`);
  }
  return run(await loaded, latents);
};

// --- latents

// Return SAMPLES vectors of independent standard normal numbers, which depend on the seed alone.
function latentsOfSeed(seed) {
  let state = seed >>> 0;
  const uniform = () => {  // mulberry32, in (0, 1)
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return Array.from({length: SAMPLES}, () => Float32Array.from({length: LATENT_SIZE}, normal));
}

// Spherical interpolation, as in dcgan/generation.py.
function interpolate(start, end, fraction) {
  const product = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const cosine = product(start, end) / Math.sqrt(product(start, start) * product(end, end));
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (angle < 1e-6) return start;
  const first = Math.sin((1 - fraction) * angle) / Math.sin(angle), second = Math.sin(fraction * angle) / Math.sin(angle);
  return start.map((value, i) => first * value + second * end[i]);
}

// --- the page

function draw(canvas, image) {
  const pixels = new ImageData(SIDE, SIDE);
  image.forEach((value, i) => pixels.data.set([0, 0, 0].fill(Math.round((value + 1) * 127.5)).concat(255), 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

const pause = () => new Promise(resolve => setTimeout(resolve));

async function start() {
  const network = await loaded;
  const image = element("image"), seedField = element("seed"), target = element("target"), fraction = element("fraction");
  const radios = [...document.querySelectorAll("input[name=sample]")], sliders = [...document.querySelectorAll(".direction input")];
  const gridCanvases = radios.map(radio => radio.parentElement.querySelector("canvas"));
  const stripCanvases = [...document.querySelectorAll(".strip canvas")];
  let samples = [], shownSeed = 0, scheduled = false;
  let gridWork = 0, stripWork = 0;  // what is being drawn stops when newer work begins

  const selected = () => radios.findIndex(radio => radio.checked);
  const between = share => interpolate(samples[selected()], samples[target.value - 1], share);

  function currentLatents() {
    const latents = Float32Array.from(between(fraction.value / 100));
    sliders.forEach((slider, d) => network.directions[d].forEach((value, i) => { latents[i] += slider.value * value; }));
    return latents;
  }

  function show() {
    for (const slider of sliders) {
      const sign = slider.value < 0 ? "−" : slider.value > 0 ? "+" : "";
      slider.parentElement.querySelector("output").value = sign + Math.abs(slider.value).toFixed(1);
    }
    element("share").value = `${fraction.value} %`;
    element("caption").textContent = `Sample ${selected() + 1} of seed ${shownSeed}`
      + (fraction.value > 0 ? `, ${fraction.value} % of the way to sample ${target.value}` : "")
      + (sliders.some(slider => Number(slider.value)) ? ", moved along the directions" : "");
    draw(image, run(network, currentLatents()));
  }

  // While a slider moves, only the last position of each frame is computed.
  function update() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => { scheduled = false; show(); });
  }

  async function drawAll(canvases, latentsOf, isCurrent) {
    for (let i = 0; i < canvases.length; i++) {
      if (!isCurrent()) return false;
      draw(canvases[i], run(network, latentsOf(i)));
      await pause();
    }
    return true;
  }

  async function select() {
    const mine = ++stripWork;
    for (const option of target.options) option.disabled = option.index === selected();
    if (target.selectedIndex === selected()) target.selectedIndex = (selected() + 1) % SAMPLES;
    show();
    await drawAll(stripCanvases, i => between(i / (STRIP - 1)), () => mine === stripWork);
  }

  async function useSeed(seed) {
    const mine = ++gridWork, began = performance.now();
    shownSeed = seed;
    samples = latentsOfSeed(seed);
    show();
    if (!await drawAll(gridCanvases, i => samples[i], () => mine === gridWork)) return;
    const milliseconds = (performance.now() - began) / SAMPLES;
    element("status").textContent = `Sixteen images of seed ${seed}, ${milliseconds.toFixed(0)} ms each in this browser.`;
    await select();
  }

  function reset() {
    for (const slider of [...sliders, fraction]) slider.value = 0;
  }

  function download() {
    const large = document.createElement("canvas"), link = document.createElement("a");
    large.width = large.height = SIDE * DOWNLOAD_SCALE;
    const context = large.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(image, 0, 0, large.width, large.height);
    link.href = large.toDataURL("image/png");
    link.download = `dcgan-seed-${shownSeed}-sample-${selected() + 1}.png`;
    link.click();
  }

  seedField.addEventListener("change", () => { if (seedField.reportValidity()) useSeed(Number(seedField.value)); });
  element("new-seed").addEventListener("click", () => {
    seedField.value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
    useSeed(Number(seedField.value));
  });
  for (const radio of radios) radio.addEventListener("change", () => { reset(); select(); });
  for (const slider of [...sliders, fraction]) slider.addEventListener("input", update);
  target.addEventListener("change", select);
  element("reset").addEventListener("click", () => { reset(); update(); });
  element("download").addEventListener("click", download);
  element("controls").disabled = false;
  await useSeed(Number(seedField.value));
}

start().catch(error => {
  element("status").textContent = `This browser cannot run the generator (${error.message}); one of 2023 or later can.`;
});
