// The page to try a model: sends images to this server and shows its labels; thresholds can be moved, on this page only.
"use strict";

const ROWS_SHOWN = 8;
const SENT_AT_ONCE = 4;
const MAX_TRIES = 6;

const byId = (id) => document.getElementById(id);
const own = new Map(); // label -> the model's threshold
const moved = new Map(); // label -> where this page has put it
const cards = new Set();
const waiting = [];
let numSending = 0;
let token = "";

const thresholdOf = (label) => (moved.has(label) ? moved.get(label) : own.get(label));
const say = (text) => { byId("status").textContent = text; };
const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

// --- the server ----------------------------------------------------------------------------------------------------

function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  return fetch(path, { ...options, headers, cache: "no-store" });
}

async function readModel() {
  let response;
  try {
    response = await ask("/labels");
  } catch {
    byId("model").textContent = "The server does not answer. Reload the page when it runs again.";
    return;
  }
  byId("access").hidden = response.status !== 401;
  const answer = await response.json();
  if (!response.ok) {
    byId("model").textContent = response.status === 401 && !token ? "The model is behind a token." : answer.error.message;
    if (response.status === 401) byId("token").focus();
    return;
  }
  own.clear();
  for (const { label, threshold } of answer.labels) own.set(label, threshold);
  byId("model").textContent = `${count(own.size, "label", "labels")} · model ${answer.model}`;
}

async function send(file, path = "/predict?all_probabilities=true") {
  for (let tries = 1; ; tries += 1) {
    const response = await ask(path, {
      method: "POST",
      headers: { "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream" },
      body: file,
    });
    const answer = await response.json();
    const isBusy = response.status === 503 || response.status === 429;
    if (!isBusy || tries === MAX_TRIES) return answer;
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((wake) => setTimeout(wake, seconds * 1000));
  }
}

// --- images --------------------------------------------------------------------------------------------------------

function addFiles(files) {
  for (const file of files) waiting.push(new Card(file));
  sendNext();
}

async function sendNext() {
  while (numSending < SENT_AT_ONCE && waiting.length) {
    const card = waiting.shift();
    numSending += 1;
    tellProgress();
    send(card.file)
      .then((answer) => card.show(answer))
      .catch(() => card.fail("The server does not answer."))
      .finally(() => { numSending -= 1; tellProgress(); sendNext(); });
  }
}

function tellProgress() {
  const left = waiting.length + numSending;
  if (left) say(`Waiting for ${count(left, "image", "images")} …`);
  else if (cards.size) say(`${count(cards.size, "image", "images")} answered.`);
  else say("");
}

class Card {
  constructor(file) {
    this.file = file;
    this.answer = null;
    this.explained = "";
    this.rows = new Map();
    this.element = byId("card").content.firstElementChild.cloneNode(true);
    this.find("h2").textContent = file.name;
    this.find(".note").textContent = "Waiting …";
    const image = this.find("img");
    image.alt = file.name;
    image.addEventListener("error", () => this.find(".photo").classList.add("blank"));
    image.src = URL.createObjectURL(file);
    this.find(".copy-json").addEventListener("click", () => copy(JSON.stringify(this.describe(), null, 2), "The answer as JSON"));
    this.find(".copy-curl").addEventListener("click", () => copy(this.writeCurl(), "The command for curl"));
    this.find(".remove").addEventListener("click", () => this.remove());
    this.find(".more").addEventListener("click", () => this.showAllRows());
    cards.add(this);
    byId("images").prepend(this.element);
  }

  find(selector) { return this.element.querySelector(selector); }

  fail(message) {
    this.find(".note").textContent = message;
    this.find(".note").classList.add("wrong");
    this.find(".copy-json").hidden = this.answer === null;
  }

  show(answer) {
    if (!answer.labels) {
      this.answer = "image" in answer ? answer : null;
      this.fail(answer.error.message);
      return;
    }
    this.answer = { ...answer, image: this.file.name };
    const { probabilities, thresholds } = answer;
    for (const [label, threshold] of Object.entries(thresholds)) own.set(label, threshold); // the model may have been replaced
    this.order = Object.keys(probabilities).sort((a, b) => probabilities[b] - thresholds[b] - probabilities[a] + thresholds[a]);
    this.addRows(Math.max(ROWS_SHOWN, answer.labels.length));
    this.update();
  }

  addRows(number) {
    for (const label of this.order.slice(this.rows.size, number)) {
      const row = byId("row").content.firstElementChild.cloneNode(true);
      const slider = row.querySelector("input");
      row.querySelector(".label").textContent = label;
      row.querySelector(".label").title = `Which parts of the image speak for ${label}?`;
      row.querySelector(".label").setAttribute("aria-pressed", "false");
      row.querySelector(".label").addEventListener("click", () => this.explain(label));
      row.querySelector(".fill").style.setProperty("--probability", this.answer.probabilities[label]);
      slider.setAttribute("aria-label", `Threshold of ${label}`);
      slider.addEventListener("input", () => moveThreshold(label, Number(slider.value)));
      this.rows.set(label, row);
      this.find(".rows").append(row);
    }
    const left = this.order.length - this.rows.size;
    this.find(".more").hidden = left === 0;
    this.find(".more").textContent = `Show ${left} more`;
  }

  showAllRows() {
    this.addRows(this.order.length);
    this.update();
  }

  // Shows which parts of the image speak for a label; the same label again, or another answer, takes it away.
  async explain(label) {
    const isShown = this.explained === label;
    this.hideMap();
    if (isShown) return;
    this.explained = label;
    this.rows.get(label).querySelector(".label").setAttribute("aria-pressed", "true");
    say(`Hiding parts of ${this.file.name} …`);
    let answer;
    try {
      answer = await send(this.file, `/explain?label=${encodeURIComponent(label)}`);
    } catch {
      answer = { error: { message: "The server does not answer." } };
    }
    if (this.explained !== label) return;
    if (!answer.map) {
      this.hideMap();
      say(answer.error.message);
      return;
    }
    this.drawMap(answer.map);
    say([`Bright parts speak for ${label}.`, ...answer.notes].join(" "));
  }

  drawMap(rows) {
    const image = this.find("img");
    const canvas = this.find("canvas");
    const scale = 480 / Math.max(image.naturalWidth, image.naturalHeight);
    canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
    canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
    const small = new OffscreenCanvas(rows[0].length, rows.length);
    const pixels = new ImageData(rows[0].length, rows.length);
    const strongest = Math.max(1, ...rows.flat()); // log-odds: a map of next to nothing is not blown up
    rows.flat().forEach((value, place) => {
      const strength = Math.min(1, Math.max(0, value / strongest));
      pixels.data.set([255, 110 + 130 * strength, 20 + 90 * strength, 215 * Math.sqrt(strength)], 4 * place);
    });
    small.getContext("2d").putImageData(pixels, 0, 0);
    canvas.getContext("2d").drawImage(small, 0, 0, canvas.width, canvas.height);
    canvas.hidden = false;
    this.find(".photo").classList.add("explained");
  }

  hideMap() {
    if (this.explained) this.rows.get(this.explained).querySelector(".label").setAttribute("aria-pressed", "false");
    this.explained = "";
    this.find("canvas").hidden = true;
    this.find(".photo").classList.remove("explained");
    tellProgress();
  }

  given() {
    const { probabilities } = this.answer;
    const margin = (label) => probabilities[label] - thresholdOf(label);
    return this.order.filter((label) => margin(label) >= 0).sort((a, b) => margin(b) - margin(a));
  }

  update() {
    if (!this.answer || !this.answer.labels) return;
    const given = this.given();
    const before = new Set(this.answer.labels);
    const now = new Set(given);
    const chips = given.map((label) => makeChip(label, before.has(label) ? "" : "plus"));
    chips.push(...this.answer.labels.filter((label) => !now.has(label)).map((label) => makeChip(label, "minus")));
    this.find(".given").replaceChildren(...chips);
    this.find(".note").textContent = given.length ? "" : "None of the labels.";
    for (const [label, row] of this.rows) {
      const threshold = thresholdOf(label);
      row.classList.toggle("is-given", now.has(label));
      row.classList.toggle("is-changed", moved.has(label));
      const slider = row.querySelector("input");
      slider.value = threshold;
      const probability = this.answer.probabilities[label];
      row.querySelector("output").textContent = compare(probability, threshold, now.has(label));
      const state = now.has(label) ? "given" : "not given";
      slider.setAttribute("aria-valuetext", `${threshold.toFixed(3)}, probability ${probability.toFixed(3)}, ${state}`);
    }
  }

  describe() {
    if (!this.answer.labels) return this.answer;
    const labels = this.given();
    const pick = (value) => Object.fromEntries(labels.map((label) => [label, value(label)]));
    const { image, model, error, probabilities } = this.answer;
    return { image, labels, probabilities: pick((label) => probabilities[label]), thresholds: pick(thresholdOf), model, error };
  }

  writeCurl() {
    const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    const type = this.file.type.startsWith("image/") ? this.file.type : "application/octet-stream";
    const access = token ? ' -H "Authorization: Bearer $MANYLABEL_TOKEN"' : "";
    return `curl${access} -H ${quote(`Content-Type: ${type}`)} --data-binary ${quote(`@${this.file.name}`)} ${quote(`${location.origin}/predict`)}`;
  }

  remove() {
    const next = this.element.nextElementSibling || this.element.previousElementSibling;
    URL.revokeObjectURL(this.find("img").src);
    cards.delete(this);
    const place = waiting.indexOf(this);
    if (place >= 0) waiting.splice(place, 1);
    this.element.remove();
    (next ? next.querySelector(".remove") : byId("files")).focus();
    tellProgress();
    tellChanges();
  }
}

function compare(probability, threshold, isGiven) {
  // As many digits as it takes to see which is larger.
  let digits = 2;
  while (digits < 7 && probability.toFixed(digits) === threshold.toFixed(digits)) digits += 1;
  return `${probability.toFixed(digits)} ${isGiven ? "≥" : "<"} ${threshold.toFixed(digits)}`;
}

function makeChip(label, change) {
  const chip = document.createElement("li");
  chip.textContent = change === "plus" ? `+ ${label}` : label;
  if (change) chip.className = change;
  if (change === "minus") chip.title = "no longer given";
  return chip;
}

// --- thresholds ----------------------------------------------------------------------------------------------------

function moveThreshold(label, value) {
  if (Math.abs(value - own.get(label)) < 0.0005) moved.delete(label);
  else moved.set(label, value);
  for (const card of cards) card.update();
  tellChanges();
}

function tellChanges() {
  byId("changes").hidden = moved.size === 0;
  const lines = [...moved].slice(0, 3).map(([label, value]) => `threshold of ${label} ${own.get(label).toFixed(3)} → ${value.toFixed(3)}`);
  if (moved.size > 3) lines.push(`${moved.size - 3} more`);
  let numChanged = 0;
  for (const card of cards) {
    if (!card.answer || !card.answer.labels) continue;
    const now = card.given();
    const before = new Set(card.answer.labels);
    if (now.length !== before.size || now.some((label) => !before.has(label))) numChanged += 1;
  }
  byId("changed").textContent = `${lines.join(", ")}: ${count(numChanged, "image has", "images have")} other labels.`;
}

function resetThresholds() {
  moved.clear();
  for (const card of cards) card.update();
  tellChanges();
  byId("files").focus();
}

// --- copying -------------------------------------------------------------------------------------------------------

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // only pages of this machine or behind https may write to the clipboard the new way
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    if (!isDone) {
      say(`Not copied: the browser does not allow it.`);
      return;
    }
  }
  say(`${what} is copied.`);
}

// --- what people do ------------------------------------------------------------------------------------------------

byId("files").addEventListener("change", (event) => { addFiles(event.target.files); event.target.value = ""; });
byId("reset").addEventListener("click", resetThresholds);
byId("copy-thresholds").addEventListener("click", () => {
  const all = Object.fromEntries([...own.keys()].map((label) => [label, thresholdOf(label)]));
  copy(JSON.stringify(all, null, 2), "Every threshold as JSON");
});
byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  byId("token").value = "";
  readModel();
});
document.addEventListener("dragover", (event) => { event.preventDefault(); byId("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  addFiles(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) { event.preventDefault(); addFiles(files); }
});

readModel();
