"use strict";

// What is drawn: small pictures of heads, and the matrix. This file stands before viewer.js on the page.

const THUMB = 56; // pixels of a small picture at most; longer texts are drawn with the largest weight of each block

function make(tag, parent, properties = {}, attributes = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function between(low, value, high) {
  return Math.max(low, Math.min(high, value));
}

function thumbnail(canvas, source, unit) {
  const block = Math.ceil(source.size / THUMB);
  const side = Math.ceil(source.size / block);
  const values = new Float32Array(side * side);
  source.each(unit, (i, j, w) => {
    const at = Math.floor(i / block) * side + Math.floor(j / block);
    if (w > values[at]) values[at] = w;
  });
  paint(canvas, values, side);
}

function paint(canvas, values, side) {
  let top = 0;
  for (const value of values) if (value > top) top = value;
  const [red, green, blue] = color("--heat").split(" ").map(Number);
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  // The square root of the weight: the eye is to see small weights beside one that is near 1.
  values.forEach((w, i) => image.data.set([red, green, blue, top ? 255 * Math.sqrt(w / top) : 0], 4 * i));
  context.putImageData(image, 0, 0);
}

// The matrix is as large as its zoom says, and only the window on it is drawn: the canvas sticks to the scrolling frame.
class Matrix {
  constructor(parent, labels, choose, hover) {
    this.frame = make("div", parent, { className: "frame" });
    this.space = make("div", this.frame);
    this.canvas = make("canvas", this.space, { tabIndex: 0 }, { role: "application", "aria-label": labels.matrix });
    this.picture = document.createElement("canvas");
    this.cell = 0;
    this.frame.onscroll = () => this.draw();
    this.canvas.onclick = (event) => this.at(event, choose);
    this.canvas.onpointermove = (event) => this.at(event, hover);
    new ResizeObserver(() => requestAnimationFrame(() => this.fits())).observe(parent);
  }

  fits() {
    if (this.names && this.width !== this.frame.clientWidth) this.zoom(0);
  }

  at(event, then) {
    const box = this.canvas.getBoundingClientRect();
    const [j, i] = [event.clientX - box.left + this.frame.scrollLeft, event.clientY - box.top + this.frame.scrollTop].map(
      (p) => Math.floor((p - this.gutter) / this.cell),
    );
    const inside = event.clientX - box.left > this.gutter && event.clientY - box.top > this.gutter;
    if (inside && i >= 0 && j >= 0 && i < this.names.length && j < this.names.length) then(i, j);
  }

  show(values, names) {
    paint(this.picture, values, names.length);
    const fresh = this.names !== names;
    this.names = names;
    if (fresh) this.zoom(0, true);
  }

  zoom(steps, whole = false) {
    const size = this.names.length;
    this.width = this.frame.clientWidth;
    const context = this.canvas.getContext("2d");
    context.font = "12px system-ui, sans-serif";
    const widest = Math.max(...this.names.map((name) => context.measureText(this.short(name)).width));
    this.gutter = Math.ceil(Math.min(widest, this.frame.clientWidth / 3)) + 8;
    const room = this.frame.clientWidth - this.gutter - 2;
    const least = Math.min(24, room / size);
    if (whole || !this.cell) this.cell = size <= 64 ? Math.max(11, least) : least;
    const middle = (this.frame.scrollLeft + room / 2) / this.cell;
    const down = (this.frame.scrollTop + room / 2) / this.cell;
    this.cell = between(least, this.cell * 1.5 ** steps, 32);
    const side = Math.ceil(this.gutter + size * this.cell) + 2;
    this.space.style.width = this.space.style.height = `${side}px`;
    const height = Math.min(side, Math.max(280, Math.min(640, window.innerHeight * 0.75)));
    this.frame.style.height = `${height + (side > this.frame.clientWidth ? 16 : 0)}px`;
    if (steps) this.frame.scrollTo(middle * this.cell - room / 2, down * this.cell - room / 2);
    this.draw();
  }

  short(name) {
    const letters = [...name];
    return letters.length > 16 ? `${letters.slice(0, 15).join("")}…` : name;
  }

  reveal() {
    const { frame, cell, gutter } = this;
    const need = (scroll, room, place) => between((place + 1) * cell + gutter - room, scroll, place * cell);
    frame.scrollTo(
      need(frame.scrollLeft, frame.clientWidth, this.column),
      need(frame.scrollTop, frame.clientHeight, this.row),
    );
  }

  draw() {
    if (!this.names) return;
    const { canvas, cell, gutter, names, frame } = this;
    const sharp = window.devicePixelRatio || 1;
    const width = Math.min(frame.clientWidth, parseFloat(this.space.style.width));
    const height = Math.min(frame.clientHeight, parseFloat(this.space.style.height));
    canvas.width = width * sharp;
    canvas.height = height * sharp;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(sharp, sharp);
    const [x, y] = [gutter - frame.scrollLeft, gutter - frame.scrollTop];
    const side = names.length * cell;
    context.save();
    context.beginPath();
    context.rect(gutter, gutter, width, height);
    context.clip();
    context.imageSmoothingEnabled = cell < 1;
    context.drawImage(this.picture, x, y, side, side);
    if (cell >= 8) this.lines(context, x, y, side, width, height);
    context.strokeStyle = color("--warm");
    context.strokeRect(x + 0.5, y + this.row * cell + 0.5, side - 1, Math.max(1, cell - 1));
    context.strokeRect(x + this.column * cell + 0.5, y + 0.5, Math.max(1, cell - 1), side - 1);
    context.restore();
    this.titles(context, width, height);
  }

  lines(context, x, y, side, width, height) {
    context.strokeStyle = color("--card");
    context.beginPath();
    for (let i = 0; i <= this.names.length; i += 1) {
      const [across, down] = [Math.round(x + i * this.cell) + 0.5, Math.round(y + i * this.cell) + 0.5];
      if (across >= this.gutter && across <= width) context.moveTo(across, y), context.lineTo(across, y + side);
      if (down >= this.gutter && down <= height) context.moveTo(x, down), context.lineTo(x + side, down);
    }
    context.stroke();
  }

  titles(context, width, height) {
    const { cell, gutter, names, frame } = this;
    context.font = `${between(9, cell, 12)}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    const room = gutter - 7;
    const write = (i, chosen, scroll, across) => {
      const middle = gutter + (i + 0.5) * cell - scroll;
      if (middle < gutter || middle > (across ? width : height)) return;
      context.fillStyle = color(chosen ? "--warm" : "--soft");
      const name = this.short(names[i]);
      const single = [...name].length === 1; // a lone letter or Chinese character needs no turning
      context.save();
      context.translate(across ? middle : gutter - 5, across ? gutter - (single ? 9 : 5) : middle);
      context.rotate(across && !single ? -Math.PI / 2 : 0);
      context.textAlign = across ? (single ? "center" : "left") : "right";
      context.fillText(name, 0, 0, room);
      context.restore();
    };
    const every = Math.ceil(10 / cell);
    for (let i = 0; i < names.length; i += 1) {
      const near = (place) => i === place || (i % every === 0 && (every === 1 || Math.abs(i - place) >= every));
      if (near(this.row)) write(i, i === this.row, frame.scrollTop, false);
      if (near(this.column)) write(i, i === this.column, frame.scrollLeft, true);
    }
  }
}
