"use strict";
// The networks of this page once more, in plain JavaScript, on the weights that Python trained. Each part of the page begins with a test:
// it computes what Python computed of the same input, and says how far apart the two are.

// ---- arrays -------------------------------------------------------------------------------------------------------------

const models = {};
for (const element of document.querySelectorAll("script.model")) {
  const found = JSON.parse(element.textContent), weights = {};
  for (const [name, {shape, data}] of Object.entries(found.weights)) weights[name] = {shape, values: floats(data)};
  models[element.dataset.name] = {...found, weights};
}

function bytes(base64) { return Uint8Array.from(atob(base64), c => c.charCodeAt(0)); }
function floats(base64) { return new Float32Array(bytes(base64).buffer); }
const sigmoid = x => 1 / (1 + Math.exp(-x));
const ACTIVATIONS = {ReLU: x => Math.max(0, x), Tanh: Math.tanh, SiLU: x => x * sigmoid(x)};

// W x + b for W (outputs, inputs).
function linear(x, {shape: [outputs, inputs], values}, bias) {
  const y = new Float64Array(outputs);
  for (let o = 0; o < outputs; o++) {
    let sum = bias ? bias.values[o] : 0;
    for (let i = 0, at = o * inputs; i < inputs; i++) sum += values[at + i] * x[i];
    y[o] = sum;
  }
  return y;
}

// W' y for W (outputs, inputs): the same weights from the other side.
function backward(y, {shape: [outputs, inputs], values}) {
  const x = new Float64Array(inputs);
  for (let o = 0; o < outputs; o++) if (y[o]) for (let i = 0, at = o * inputs; i < inputs; i++) x[i] += values[at + i] * y[o];
  return x;
}

// Linear layers with an activation between them: those whose names begin like this, in their order.
function layers(x, weights, prefix, activation) {
  const names = Object.keys(weights).filter(name => name.startsWith(prefix) && name.endsWith(".weight"))
    .sort((a, b) => parseInt(a.slice(prefix.length)) - parseInt(b.slice(prefix.length)));
  names.forEach((name, i) => {
    x = linear(x, weights[name], weights[name.replace(".weight", ".bias")]);
    if (i < names.length - 1) x = x.map(ACTIVATIONS[activation]);
  });
  return x;
}

function logSumExp(x) {
  const most = Math.max(...x);
  return most + Math.log(x.reduce((sum, v) => sum + Math.exp(v - most), 0));
}

function softmax(x) {
  const total = logSumExp(x);
  return Array.from(x, v => Math.exp(v - total));
}

function draw(p) {
  let u = Math.random();
  for (let i = 0; i < p.length; i++) if ((u -= p[i]) < 0) return i;
  return p.indexOf(Math.max(...p));
}

// ---- the networks ---------------------------------------------------------------------------------------------------------

// p(y | x) by a multilayer perceptron.
const classify = (model, x) => softmax(layers(x, model.weights, "layers.", model.activation));

// What a variational autoencoder's decoder makes of a latent z, as logits of pixels.
const decode = (model, z) => layers(z, model.weights, "decoder.", model.activation);

// Probabilities of an RBM's hidden units given the visible ones, and of the visible ones given the hidden ones.
const hidden = (model, v) => backward(v, model.weights.weight).map((x, j) => sigmoid(x + model.weights.hidden_bias.values[j]));
const visible = (model, h) => linear(h, model.weights.weight, model.weights.visible_bias).map(sigmoid);

// log p(x | y) of a standardised point x by a variational autoencoder, from the same noise each time: the logarithm of the mean of
// p(x | z, y) p(z) / q(z | x, y) over latents z that the encoder draws.
function logLikelihood(model, x, y) {
  const {weights, activation, classes, noise} = model, one = classes.map((_, i) => +(i === y));
  const found = layers([...x, ...one], weights, "encoder.", activation), L = found.length / 2;
  const scale = Array.from(weights["likelihood.log_scale"].values, Math.exp);
  const terms = noise.map(e => {
    const z = e.map((v, i) => found[i] + Math.exp(found[L + i] / 2) * v);
    const mean = layers([...z, ...one], weights, "decoder.", activation);
    let log = 0;
    for (let i = 0; i < x.length; i++) log -= ((x[i] - mean[i]) / scale[i]) ** 2 / 2 + Math.log(scale[i]) + Math.log(2 * Math.PI) / 2;
    for (let i = 0; i < L; i++) log += (e[i] ** 2 + found[L + i] - z[i] ** 2) / 2;
    return log;
  });
  return logSumExp(terms) - Math.log(terms.length);
}

// {posterior, evidence}: p(y | x) by Bayes' rule, and log p(x).
function bayes(model, x) {
  const joint = model.classes.map((_, y) => logLikelihood(model, x, y) + Math.log(model.shares[y])), evidence = logSumExp(joint);
  return {posterior: joint.map(v => Math.exp(v - evidence)), evidence};
}

// One step of an LSTM: reads a token, changes the state {h, c}, and gives the logits of the next one.
function read(model, token, state) {
  const {weights} = model, name = "recurrent.layers.0.", E = weights["embedding.weight"].shape[1];
  const x = weights["embedding.weight"].values.subarray(token * E, (token + 1) * E);
  const a = linear(x, weights[name + "weight_ih_l0"], weights[name + "bias_ih_l0"]);
  const b = linear(state.h, weights[name + "weight_hh_l0"], weights[name + "bias_hh_l0"]), H = state.h.length;
  const gate = (k, j) => a[k * H + j] + b[k * H + j];
  state.c = state.c.map((c, j) => sigmoid(gate(1, j)) * c + sigmoid(gate(0, j)) * Math.tanh(gate(2, j)));
  state.h = state.c.map((c, j) => sigmoid(gate(3, j)) * Math.tanh(c));
  return linear(state.h, weights["output.weight"], weights["output.bias"]);
}

function silent(model) {
  const H = model.weights["recurrent.layers.0.weight_hh_l0"].shape[1];
  return {h: new Float64Array(H), c: new Float64Array(H)};
}

function readAll(model, tokens) {
  const state = silent(model);
  let logits;
  for (const token of tokens) logits = read(model, token, state);
  return logits;
}

// ---- do they agree with Python? -------------------------------------------------------------------------------------------

const apart = (a, b) => Math.max(...Array.from(a, (v, i) => Math.abs(v - b[i])));
const COMPUTED = {
  digit: (model, x) => classify(model, x),
  latent: (model, z) => decode(model, z).map(sigmoid),
  chain: (model, v) => [...hidden(model, v), ...visible(model, hidden(model, v))],
  write: (model, tokens) => readAll(model, tokens),
  told: (model, x) => classify(model, x),
  drawn: (model, x) => { const {posterior, evidence} = bayes(model, x); return [...posterior, evidence]; },
};
const difference = name => Math.max(...models[name].check.inputs.map((x, i) => apart(COMPUTED[name](models[name], x), models[name].check.outputs[i])));

// ---- the page -------------------------------------------------------------------------------------------------------------

const $ = (root, what) => root.querySelector(`[data-is="${what}"]`);

function bars(element, names, p) {
  const best = p.indexOf(Math.max(...p));
  element.innerHTML = "";
  names.forEach((name, i) => {
    const bar = document.createElement("div");
    bar.className = i === best ? "bar best" : "bar";
    bar.innerHTML = `<span></span><span><i style="width:${(100 * p[i]).toFixed(1)}%"></i></span><span>${(100 * p[i]).toFixed(1)} %</span>`;
    bar.firstChild.textContent = name;
    element.append(bar);
  });
}

// Grey values 0..1 (side x side) as dark ink on a canvas, at (left, top), each as large as `size` pixels.
function ink(context, values, side, left = 0, top = 0, size = 1) {
  for (let i = 0; i < values.length; i++) {
    const grey = Math.round(255 * (1 - Math.min(1, Math.max(0, values[i]))));
    context.fillStyle = `rgb(${grey},${grey},${grey})`;
    context.fillRect(left + i % side * size, top + Math.floor(i / side) * size, size, size);
  }
}

// Call down(x, y), move(x, y) and up() with the place of a pointer that is held down on a canvas, in its pixels, and key([dx, dy]) for arrow
// keys; if there is a space(), that for the space bar.
function handle(canvas, {down, move, up = () => {}, key, space}) {
  const place = event => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
  };
  let held = null;
  canvas.addEventListener("pointerdown", event => {
    if (event.button || !event.isPrimary) return;
    held = event.pointerId;
    if (event.isTrusted) canvas.setPointerCapture(held);           // a pointer that a script made up cannot be captured
    down(...place(event));
  });
  canvas.addEventListener("pointermove", event => { if (event.pointerId === held) move(...place(event)); });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, event => { if (event.pointerId === held) { held = null; up(); } });
  canvas.addEventListener("keydown", event => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (step) { event.preventDefault(); key(step); }
    if (event.key === " " && space) { event.preventDefault(); space(); }
  });
}

const PARTS = {};

// Draw a digit: strokes are kept as lines, and made as large as the digits of the data are before the network sees them.
PARTS.digit = root => {
  const model = models.digit, field = $(root, "field"), context = field.getContext("2d"), seen = $(root, "seen").getContext("2d");
  const small = document.createElement("canvas"), SIDE = 8, CELL = 32;
  let strokes = [], pen = [field.width / 2, field.height / 2], writes = false, example = 0, shown = null;
  small.width = small.height = SIDE * CELL;

  function line(target, points, width, place) {
    target.lineWidth = width; target.lineCap = target.lineJoin = "round"; target.strokeStyle = "#1b2637";
    target.beginPath();
    points.forEach((point, i) => target[i ? "lineTo" : "moveTo"](...place(point)));
    if (points.length === 1) target.lineTo(...place(points[0]));
    target.stroke();
  }

  // 8 x 8 grey values: the share of each cell that is inked, of the drawing as large as the field.
  function picture() {
    const points = strokes.flat(), context = small.getContext("2d", {willReadFrequently: true}), side = small.width, width = side / 9;
    context.clearRect(0, 0, side, side);
    if (!points.length) return new Float64Array(SIDE * SIDE);
    const low = [0, 1].map(i => Math.min(...points.map(p => p[i]))), high = [0, 1].map(i => Math.max(...points.map(p => p[i])));
    const scale = (side - width) / Math.max(high[0] - low[0], high[1] - low[1], side / 8);
    const place = p => p.map((v, i) => side / 2 + scale * (v - (low[i] + high[i]) / 2));
    strokes.forEach(points => line(context, points, width, place));
    const {data} = context.getImageData(0, 0, side, side), found = new Float64Array(SIDE * SIDE);
    for (let y = 0; y < side; y++) for (let x = 0; x < side; x++)
      found[Math.floor(y / CELL) * SIDE + Math.floor(x / CELL)] += (data[4 * (y * side + x) + 3] > 127) / CELL ** 2;
    return found;
  }

  // A test digit, or else the strokes, and what the network says of them; nothing of an empty field.
  function paint() {
    const x = shown || picture(), p = classify(model, x), best = p.indexOf(Math.max(...p)), empty = !shown && !strokes.length;
    context.clearRect(0, 0, field.width, field.height);
    if (shown) ink(context, shown, SIDE, 0, 0, field.width / SIDE);
    strokes.forEach(points => line(context, points, 22, p => p));
    if (document.activeElement === field) { context.fillStyle = writes ? "#c8442f" : "#8a93a3"; context.fillRect(pen[0] - 4, pen[1] - 4, 8, 8); }
    ink(seen, x, SIDE);
    bars($(root, "answer"), model.classes, empty ? p.map(() => 0) : p);
    if (!writes) $(root, "said").textContent = empty ? "" : `${model.classes[best]}, ${(100 * p[best]).toFixed(1)} % sure`;
  }

  const go = (x, y) => { pen = [x, y]; strokes.at(-1).push(pen); paint(); };
  const begin = () => { shown = null; writes = true; strokes.push([]); };
  handle(field, {
    down: (x, y) => { begin(); go(x, y); },
    move: go,
    up: () => { writes = false; paint(); },
    space: () => { if (writes) { writes = false; paint(); } else { begin(); go(...pen); } },
    key: step => {
      const place = pen.map((v, i) => Math.min(field.width - 8, Math.max(8, v + 12 * step[i])));
      if (writes) go(...place); else { pen = place; paint(); }
    }});
  for (const event of ["focus", "blur"]) field.addEventListener(event, paint);
  const anew = x => { strokes = []; writes = false; shown = x; paint(); };
  $(root, "clear").onclick = () => anew(null);
  $(root, "example").onclick = () => anew(model.check.inputs[example++ % model.check.inputs.length]);
  $(root, "example").click();
};

// Walk through the latent space of a variational autoencoder.
PARTS.latent = root => {
  const model = models.latent, map = $(root, "map"), context = map.getContext("2d"), shown = $(root, "shown").getContext("2d");
  const sliders = [$(root, "z1"), $(root, "z2")], SIDE = model.side, END = 2.6, COUNT = 13, size = map.width / COUNT;
  const background = document.createElement("canvas");
  background.width = background.height = map.width;
  for (let row = 0; row < COUNT; row++) for (let column = 0; column < COUNT; column++) {
    const z = [column, COUNT - 1 - row].map(i => END * (2 * (i + .5) / COUNT - 1));
    ink(background.getContext("2d"), decode(model, z).map(sigmoid), SIDE, column * size + 1, row * size + 1, (size - 2) / SIDE);
  }

  function paint() {
    const z = sliders.map(slider => +slider.value), at = [z[0], -z[1]].map(v => (v / END + 1) / 2 * map.width);
    context.globalAlpha = 1;
    context.drawImage(background, 0, 0);
    context.globalAlpha = .9; context.lineWidth = 4; context.strokeStyle = "#c8442f";
    context.beginPath(); context.arc(...at, 11, 0, 7); context.stroke();
    ink(shown, decode(model, z).map(sigmoid), SIDE);
    $(root, "z").textContent = `z = (${z.map(v => v.toFixed(2)).join(", ")})`;
  }

  const go = (x, y) => { [x, map.height - y].forEach((v, i) => { sliders[i].value = END * (2 * v / map.width - 1); }); paint(); };
  handle(map, {down: go, move: go, key: step => {
    sliders[0].value = +sliders[0].value + step[0] / 10; sliders[1].value = +sliders[1].value - step[1] / 10; paint();
  }});
  sliders.forEach(slider => slider.addEventListener("input", paint));
  paint();
};

// Let the Markov chains of a restricted Boltzmann machine run.
PARTS.chain = root => {
  const model = models.chain, SIDE = model.side, CHAINS = 12, context = $(root, "chains").getContext("2d"), size = 10, gap = 6;
  const units = $(root, "units").getContext("2d"), H = model.weights.hidden_bias.shape[0];
  let chains, steps, timer;

  function begin(start) { chains = Array.from({length: CHAINS}, (_, i) => start(i)); steps = 0; paint(chains, hidden(model, chains[0])); }

  function step() {
    let first, means = [];
    chains = chains.map((v, i) => {
      const h = hidden(model, v).map(p => +(Math.random() < p)), mean = visible(model, h);
      if (!i) first = h;
      means.push(mean);
      return mean.map(p => +(Math.random() < p));
    });
    steps++;
    paint(means, first);
  }

  function paint(pictures, h) {
    pictures.forEach((v, i) => ink(context, v, SIDE, i % 6 * (SIDE * size + gap), Math.floor(i / 6) * (SIDE * size + gap), size));
    ink(units, h, Math.ceil(Math.sqrt(H)), 0, 0, 1);
    $(root, "steps").textContent = `${steps} steps`;
  }

  const running = on => {
    clearInterval(timer);
    timer = on ? setInterval(step, 60) : 0;
    $(root, "run").textContent = on ? "Stop" : "Run";
  };
  const noise = () => Float64Array.from({length: SIDE * SIDE}, () => +(Math.random() < .5));
  $(root, "run").onclick = () => running(!timer);
  $(root, "step").onclick = () => { running(false); step(); };
  $(root, "noise").onclick = () => begin(noise);
  $(root, "digits").onclick = () => begin(i => model.check.inputs[i % model.check.inputs.length]);
  begin(noise);
  for (let i = 0; i < 50; i++) step();
};

// Write as the character model does.
PARTS.write = root => {
  const model = models.write, text = $(root, "text"), temperature = $(root, "temperature");
  const ids = new Map(model.tokens.map((token, i) => [token, i])), LONGEST = 1000;
  let timer;
  const stop = () => { clearInterval(timer); timer = 0; $(root, "write").textContent = "Write"; };
  temperature.addEventListener("input", () => { $(root, "degree").textContent = (+temperature.value).toFixed(2); });
  $(root, "write").onclick = () => {
    if (timer) return stop();
    const given = [...$(root, "prime").value], prime = given.filter(c => ids.has(c)), state = silent(model);
    const unknown = given.filter(c => !ids.has(c)), first = ids.has("\n") ? "\n" : model.tokens[0];
    let logits, left = LONGEST;
    $(root, "unknown").textContent = unknown.length ? `It never met ${unknown.join(" ")} and leaves that out.` : "";
    for (const c of prime.length ? prime : [first]) logits = read(model, ids.get(c), state);
    text.textContent = prime.join("");
    $(root, "write").textContent = "Stop";
    timer = setInterval(() => {
      for (let i = 0; i < 4; i++) {
        const token = draw(softmax(logits.map(v => v / temperature.value)));
        text.textContent += model.tokens[token];
        logits = read(model, token, state);
      }
      text.scrollTop = text.scrollHeight;
      if ((left -= 4) <= 0) stop();
    }, 30);
  };
};

// One plane, seen in two ways.
PARTS.plane = root => {
  const told = models.told, drawn = models.drawn, {low, high, side, maps} = drawn, sliders = [$(root, "x1"), $(root, "x2")];
  const COLOURS = [[47, 109, 179], [200, 68, 47]], canvases = [$(root, "told"), $(root, "drawn")];
  const backgrounds = [maps.told, maps.drawn].map((map, i) => {
    const canvas = document.createElement("canvas"), context = canvas.getContext("2d"), image = context.createImageData(side, side);
    const share = bytes(map), density = bytes(maps.density);
    canvas.width = canvas.height = side;
    for (let at = 0; at < side * side; at++) {
      const y = side - 1 - Math.floor(at / side), from = y * side + at % side, p = share[from] / 255, strength = i ? .12 + .88 * density[from] / 255 : .55;
      for (let c = 0; c < 3; c++) image.data[4 * at + c] = 255 - strength * (255 - COLOURS[0][c] * p - COLOURS[1][c] * (1 - p));
      image.data[4 * at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return canvas;
  });

  function paint() {
    const place = sliders.map(slider => +slider.value), x = place.map((v, i) => (v - drawn.mean[i]) / drawn.std[i]);
    canvases.forEach((canvas, i) => {
      const context = canvas.getContext("2d"), share = place.map((v, k) => (v - low[k]) / (high[k] - low[k]));
      context.drawImage(backgrounds[i], 0, 0, canvas.width, canvas.height);
      context.fillStyle = "#1b2637";
      for (const [a, b] of drawn.points) context.fillRect((a - low[0]) / (high[0] - low[0]) * canvas.width, (1 - (b - low[1]) / (high[1] - low[1])) * canvas.height, 1.5, 1.5);
      context.lineWidth = 3; context.strokeStyle = "#111";
      context.beginPath(); context.arc(share[0] * canvas.width, (1 - share[1]) * canvas.height, 7, 0, 7); context.stroke();
    });
    const p = classify(told, x), {posterior, evidence} = bayes(drawn, x), less = drawn.usual - evidence;
    const sure = p => { const i = p.indexOf(Math.max(...p)); return `${told.classes[i]}, ${(100 * p[i]).toFixed(p[i] > .999 ? 2 : 1)} % sure`; };
    $(root, "told-says").textContent = sure(p);
    $(root, "drawn-says").textContent = sure(posterior);
    $(root, "evidence").textContent = evidence.toFixed(1) + (less > 3 ? `: e^${less.toFixed(0)} times less than usual test points have` : ": as test points have");
  }

  const go = canvas => (x, y) => { [x / canvas.width, 1 - y / canvas.height].forEach((v, i) => { sliders[i].value = low[i] + v * (high[i] - low[i]); }); paint(); };
  sliders.forEach((slider, i) => {
    Object.assign(slider, {min: low[i], max: high[i], step: (high[i] - low[i]) / 200});
    slider.value = drawn.points[0][i];
    slider.addEventListener("input", paint);
  });
  canvases.forEach(canvas => handle(canvas, {down: go(canvas), move: go(canvas), key: step => {
    sliders.forEach((slider, i) => { slider.value = +slider.value + (i ? -2 : 2) * step[i] * slider.step; });
    paint();
  }}));
  ["first", "second"].forEach((what, i) => { $(root, what).textContent = told.classes[i]; });
  paint();
};

for (const root of document.querySelectorAll(".part")) {
  PARTS[root.dataset.part](root);
  const far = Math.max(...root.dataset.models.split(" ").map(difference));
  root.dataset.difference = far;
  $(root, "agrees").classList.toggle("failed", !(far < 1e-4));
  $(root, "agrees").textContent = `This page and Python ${far < 1e-4 ? "compute the same" : "differ"}: on ` +
    `${models[root.dataset.models.split(" ")[0]].check.inputs.length} inputs they are at most ${far.toExponential(0)} apart.`;
}
