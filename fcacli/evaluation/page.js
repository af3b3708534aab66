"use strict";
// One frame number for all clips. A clip is one picture whose cells are the frames of all its videos: drawing a frame is
// copying a cell to each canvas, so nothing can run out of step. Pictures are decoded where they come into view.

const $ = (id) => document.getElementById(id);
const { fps, given, metrics, frames } = JSON.parse($("page-data").textContent);
const PAUSE = 0.8; // seconds that the last frame stays before the next round

class Clip {
  constructor(element) {
    const [about, picture] = element.querySelectorAll("script");
    Object.assign(this, JSON.parse(about.textContent), { element, source: picture });
    this.words = `${this.text}\n${this.name}`.toLowerCase();
    this.canvases = [...element.querySelectorAll("canvas")];
  }

  async comeIntoView(near) {
    this.near = near;
    if (!near) {
      this.picture = null;
      return;
    }
    const picture = new Image();
    picture.src = "data:image/webp;base64," + this.source.textContent;
    await picture.decode();
    if (this.near) this.picture = picture;
    this.draw(player.frame);
  }

  draw(frame) {
    if (!this.picture) return;
    this.canvases.forEach((canvas, number) => {
      const cells = this.panels[number];
      const shown = Math.min(frame, cells.length - 1);
      const cell = cells[shown];
      const { width, height } = canvas;
      const left = (cell % this.columns) * width;
      const top = Math.floor(cell / this.columns) * height;
      canvas.getContext("2d").drawImage(this.picture, left, top, width, height, 0, 0, width, height);
      canvas.classList.toggle("given", shown < given && cell === this.truth[shown]);
    });
  }
}

const clips = [...document.querySelectorAll("article")].map((element) => new Clip(element));

// ---------------------------------------------------------------- playing

const player = {
  frame: 0,
  playing: false,
  time: 0, // seconds into the round

  show(frame) {
    this.frame = Math.max(0, Math.min(frames - 1, frame));
    for (const clip of clips) clip.draw(this.frame);
    $("scrub").value = this.frame;
    $("frame").textContent = `frame ${this.frame} / ${frames - 1}${this.frame < given ? ", given" : ""}`;
  },

  seek(frame) {
    this.show(frame);
    this.time = this.frame / fps;
  },

  step(by) {
    this.play(false);
    this.seek(this.frame + by);
  },

  play(on) {
    if (on && !this.playing) {
      this.last = performance.now();
      requestAnimationFrame((now) => this.tick(now));
    }
    this.playing = on;
    $("play").textContent = on ? "Pause" : "Play";
    $("play").setAttribute("aria-pressed", on);
  },

  tick(now) {
    if (!this.playing) return;
    const speed = Number($("speed").value);
    const round = frames / fps + PAUSE * Math.min(1, speed);
    this.time = (this.time + (Math.max(0, now - this.last) / 1000) * speed) % round;
    this.last = now;
    const frame = Math.min(frames - 1, Math.floor(this.time * fps + 1e-6));
    if (frame !== this.frame) this.show(frame);
    requestAnimationFrame((next) => this.tick(next));
  },
};

$("play").onclick = () => player.play(!player.playing);
$("back").onclick = () => player.step(-1);
$("on").onclick = () => player.step(1);
$("scrub").max = Math.max(0, frames - 1);
$("scrub").oninput = (event) => {
  player.play(false);
  player.seek(Number(event.target.value));
};

// ---------------------------------------------------------------- order and choice

function arrange() {
  const order = $("order").value;
  const metric = metrics.find((one) => one.name === $("metric").value);
  const sign = (order === "worst" ? 1 : -1) * (metric?.better === "lower" ? -1 : 1);
  const score = (clip) => clip.scores[$("row").value]?.[metric?.name] ?? null;
  const compare = {
    drawn: () => 0,
    text: (a, b) => a.text.localeCompare(b.text),
    worst: (a, b) => byScore(score(a), score(b), sign),
    best: (a, b) => byScore(score(a), score(b), sign),
  }[order];
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const clip of [...clips].sort(compare)) {
    clip.element.hidden = !words.every((word) => clip.words.includes(word));
    count += !clip.element.hidden;
    $("list").append(clip.element);
  }
  $("count").textContent = `${count} of ${clips.length}`;
}

// Clips without a score come last either way.
function byScore(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (a - b);
}

for (const id of ["order", "metric", "row", "filter"]) $(id).oninput = arrange;
for (const id of ["metric", "row"]) {
  $(id).addEventListener("input", () => {
    if (["drawn", "text"].includes($("order").value)) $("order").value = "worst";
    arrange();
  });
}
$("choice").onsubmit = (event) => event.preventDefault();
for (const box of document.querySelectorAll(".shown")) {
  box.oninput = () => {
    for (const panel of document.querySelectorAll(`figure[data-row="${box.value}"]`)) panel.hidden = !box.checked;
  };
}

function put(order) {
  $("order").value = order;
  arrange();
}

function filter(words) {
  $("filter").value = words;
  arrange();
}

// ---------------------------------------------------------------- keys

function go(by) {
  const shown = [...$("list").children].filter((element) => !element.hidden);
  const now = shown.indexOf(document.activeElement.closest("article"));
  const next = shown[Math.max(0, Math.min(shown.length - 1, now + by))];
  next?.focus({ preventScroll: true });
  next?.scrollIntoView({ block: "start" });
}

const KEYS = {
  " ": () => player.play(!player.playing),
  ArrowLeft: () => player.step(-1),
  ArrowRight: () => player.step(1),
  Home: () => player.step(-frames),
  End: () => player.step(frames),
  j: () => go(1),
  k: () => go(-1),
  w: () => put("worst"),
  b: () => put("best"),
  d: () => put("drawn"),
  "/": () => $("filter").focus(),
};

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.key === "Escape" && at === $("filter")) {
    filter("");
    at.blur();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  const own = { BUTTON: [" "], INPUT: at.type === "search" ? [event.key] : at.type === "checkbox" ? [" "] : [], SELECT: [event.key] };
  if (own[at.tagName]?.includes(event.key)) return; // the control's own meaning
  event.preventDefault();
  KEYS[event.key]();
});

// ---------------------------------------------------------------- begin

const views = new Map(clips.map((clip) => [clip.element, clip]));
const watch = new IntersectionObserver(
  (entries) => entries.forEach((entry) => views.get(entry.target).comeIntoView(entry.isIntersecting)),
  { rootMargin: "600px" },
);
for (const clip of clips) watch.observe(clip.element);
arrange();
player.seek(0);
player.play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
