"use strict";

// One view for each example whose weights are in the page: a layer, its heads in small, and the chosen head in full.
// Every text goes through textContent or fillText, so none of it can become markup.

const MEAN = -1;

function make(tag, parent, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function reader(data) {
  const { layers, heads, tokens } = data;
  const area = tokens.length ** 2;
  const bytes = Uint8Array.from(atob(data.weights), (letter) => letter.charCodeAt(0));
  const one = (layer, head) => bytes.subarray((layer * heads + head) * area, (layer * heads + head + 1) * area);
  return (layer, head) => {
    const out = new Float32Array(area);
    const chosen = head === MEAN ? [...Array(heads).keys()] : [head];
    for (const h of chosen) one(layer, h).forEach((value, i) => (out[i] += value / 255 / chosen.length));
    return out;
  };
}

function thumbnail(canvas, weights, size) {
  const top = Math.max(...weights) || 1;
  const [red, green, blue] = color("--heat").split(" ").map(Number);
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  canvas.style.background = color("--page");
  weights.forEach((w, i) => image.data.set([red, green, blue, (255 * w) / top], 4 * i));
  context.putImageData(image, 0, 0);
}

function matrix(canvas, weights, tokens, state) {
  const size = tokens.length;
  const cell = Math.max(11, Math.min(26, Math.floor(560 / size)));
  const context = canvas.getContext("2d");
  const font = `${Math.min(13, cell)}px system-ui, sans-serif`;
  const short = (token) => (token.length > 16 ? token.slice(0, 15) + "…" : token);
  context.font = font;
  const gutter = Math.ceil(Math.max(...tokens.map((t) => context.measureText(short(t)).width))) + 10;
  const sharp = window.devicePixelRatio || 1;
  const side = gutter + size * cell + 2;
  canvas.width = canvas.height = side * sharp;
  canvas.style.width = canvas.style.height = `${side}px`;
  context.scale(sharp, sharp);
  context.font = font;
  context.textBaseline = "middle";
  const top = Math.max(...weights) || 1;
  const heat = color("--heat");
  weights.forEach((w, i) => {
    context.fillStyle = `rgb(${heat} / ${w / top})`;
    context.fillRect(gutter + (i % size) * cell, gutter + Math.floor(i / size) * cell, cell - 1, cell - 1);
  });
  tokens.forEach((token, i) => {
    const middle = gutter + i * cell + cell / 2;
    context.fillStyle = color(i === state.from ? "--warm" : "--soft");
    context.textAlign = "right";
    context.fillText(short(token), gutter - 6, middle);
    const single = [...token].length === 1; // a lone letter or Chinese character needs no turning
    context.save();
    context.translate(middle, gutter - (single ? 10 : 6));
    context.rotate(single ? 0 : -Math.PI / 2);
    context.textAlign = single ? "center" : "left";
    context.fillStyle = color(i === state.to ? "--warm" : "--soft");
    context.fillText(short(token), 0, 0);
    context.restore();
  });
  context.strokeStyle = color("--warm");
  context.strokeRect(gutter - 0.5, gutter + state.from * cell - 0.5, size * cell, cell);
  return (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientY - box.top, event.clientX - box.left].map((p) => Math.floor((p - gutter) / cell));
  };
}

function show(article, data) {
  const { tokens, layers, heads } = data;
  const size = tokens.length;
  const weights = reader(data);
  const state = { layer: layers - 1, head: MEAN, from: 0, to: 0 };
  const strip = [...article.querySelectorAll(".strip li")];
  const caption = article.querySelector(".caption");
  const view = make("div", article, { className: "view" });
  const label = make("label", view, { textContent: "Layer" });
  const select = make("select", label);
  for (let i = 0; i < layers; i += 1) make("option", select, { value: i, textContent: i + 1 });
  select.value = state.layer;
  const row = make("div", view, { className: "heads" });
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", "Heads");
  const buttons = [MEAN, ...Array(heads).keys()].map((head) => {
    const button = make("button", row, { type: "button", onclick: () => update({ head }) });
    button.setAttribute("aria-label", head === MEAN ? "mean of all heads" : `head ${head + 1}`);
    make("canvas", button, { width: size, height: size });
    button.append(head === MEAN ? "mean" : head + 1);
    return [head, button];
  });
  const output = make("output", view);
  const scroll = make("div", view, { className: "scroll" });
  const canvas = make("canvas", scroll, { className: "matrix", tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Attention from each token (rows) to each token (columns); arrow keys move the reading");
  let locate = () => [0, 0];

  function draw(fresh) {
    const values = weights(state.layer, state.head);
    const line = values.subarray(state.from * size, (state.from + 1) * size);
    const top = Math.max(...line) || 1;
    const place = `layer ${state.layer + 1}, ${state.head === MEAN ? `mean of ${heads} heads` : `head ${state.head + 1}`}`;
    if (fresh) for (const [head, button] of buttons) thumbnail(button.firstChild, weights(state.layer, head), size);
    for (const [head, button] of buttons) button.setAttribute("aria-pressed", head === state.head);
    strip.forEach((item, i) => {
      item.style.setProperty("--w", line[i] / top);
      item.title = line[i].toFixed(3);
      item.classList.toggle("from", i === state.from);
    });
    caption.textContent = `From “${tokens[state.from]}”, ${place}. Most, ${top.toFixed(3)}, goes to “${tokens[line.indexOf(top)] ?? ""}”.`;
    output.textContent = `“${tokens[state.from]}” gives ${line[state.to].toFixed(3)} to “${tokens[state.to]}”`;
    locate = matrix(canvas, values, tokens, state);
  }

  function update(change) {
    const next = { ...state, ...change };
    next.from = Math.max(0, Math.min(size - 1, next.from));
    next.to = Math.max(0, Math.min(size - 1, next.to));
    const fresh = next.layer !== state.layer;
    if (Object.keys(next).every((key) => next[key] === state[key])) return;
    Object.assign(state, next);
    draw(fresh);
  }

  select.onchange = () => update({ layer: Number(select.value) });
  strip.forEach((item, i) => (item.onclick = () => update({ from: i })));
  canvas.onpointermove = (event) => {
    const [from, to] = locate(event);
    if (from >= 0 && to >= 0 && from < size && to < size) update({ from, to });
  };
  canvas.onkeydown = (event) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    update({ from: state.from + down, to: state.to + right });
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(true));
  article.classList.add("live");
  draw(true);
}

for (const source of document.querySelectorAll("article.attention > script")) {
  show(source.parentElement, JSON.parse(source.textContent));
}
