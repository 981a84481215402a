// The page to try a model: sends images to this server and shows its labels. Thresholds can be moved, on this page only:
// which labels that gives is decided by the server, which knows the rules of the model.
"use strict";

const ROWS_SHOWN = 8;
const NAMES_SHOWN = 3;
const RULES_SHOWN = 4;
const SENT_AT_ONCE = 4;
const MAX_TRIES = 6;
const DECIDED_AT_ONCE = 32; // images in one question to /decide
const DECIDE_CHARACTERS = 400_000; // far below the 2 MB that the server takes, whatever the letters are
const DECIDE_AFTER_MS = 40; // a slider that is dragged tells of each pixel
const DECIDE_WITHIN_MS = 15_000;

const MAX_NAME = 255; // of an image, in an answer
const ACCESS = '-H "Authorization: Bearer $MANYLABEL_TOKEN"';

const byId = (id) => document.getElementById(id);
const own = new Map(); // label -> the model's threshold
const moved = new Map(); // label -> where this page has put it
let version = 0; // goes up whenever a threshold moves
const cards = new Set();
const waiting = [];
let numSending = 0;
let numGroups = 0; // of images that were chosen at once
let token = "";

const thresholdOf = (label) => (moved.has(label) ? moved.get(label) : own.get(label));
const say = (text) => { byId("status").textContent = text; };
const cutName = (file) => [...file.name].slice(0, MAX_NAME).join("");
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
  const isRefused = response.status === 401 || response.status === 429; // no token or a wrong one; many wrong ones
  byId("access").hidden = !isRefused;
  if (isRefused) replaceLink();
  const answer = await response.json();
  if (!response.ok) {
    byId("model").textContent = response.status === 401 && !token ? "The model is behind a token." : answer.error.message;
    if (isRefused) byId("token").focus();
    return;
  }
  own.clear();
  for (const { label, threshold } of answer.labels) own.set(label, threshold);
  byId("model").textContent = `${count(own.size, "label", "labels")} · model ${answer.model}`;
}

// A link carries no token.
function replaceLink() {
  byId("interface").textContent = `The interface is described at /docs, which needs the token too: curl ${ACCESS} ${location.origin}/docs`;
}

function send(file, path, parameters) {
  return post(`${path}?${new URLSearchParams({ ...parameters, name: cutName(file) })}`, file.type.startsWith("image/") ? file.type : "application/octet-stream", file);
}

async function post(path, type, body, options = {}) {
  for (let tries = 1; ; tries += 1) {
    const response = await ask(path, { ...options, method: "POST", headers: { "Content-Type": type }, body });
    const answer = await response.json();
    const isBusy = response.status === 503 || response.status === 429;
    if (!isBusy || tries === MAX_TRIES) return answer;
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((wake) => setTimeout(wake, seconds * 1000));
  }
}

// --- images --------------------------------------------------------------------------------------------------------

// The newest stand first, those that were chosen at once in their order.
function addFiles(files) {
  numGroups += 1;
  const next = byId("images").firstElementChild;
  for (const file of files) waiting.push(new Card(file, numGroups, next));
  sendNext();
}

async function sendNext() {
  while (numSending < SENT_AT_ONCE && waiting.length) {
    const card = waiting.shift();
    numSending += 1;
    tellProgress();
    send(card.file, "/predict", { all_probabilities: true })
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
  constructor(file, group, next) {
    this.file = file;
    this.group = group;
    this.answer = null;
    this.decision = null;
    this.unmoved = null; // what was decided with the model's own thresholds
    this.version = -1; // of the thresholds that the server has decided with
    this.notes = [];
    this.isForeign = false; // whether another model was there to decide
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
    this.find(".copy-curl").addEventListener("click", () => copy(this.writeCurl(), moved.size ? "The command for curl, with the model's own thresholds," : "The command for curl"));
    this.find(".remove").addEventListener("click", () => this.remove());
    this.find(".more").addEventListener("click", () => this.showAllRows());
    cards.add(this);
    byId("images").insertBefore(this.element, next);
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
    this.answer = answer;
    const { probabilities, thresholds } = answer;
    for (const [label, threshold] of Object.entries(thresholds)) own.set(label, threshold); // the model may have been replaced
    const margin = (label) => probabilities[label] - thresholds[label];
    const given = new Set(answer.labels);
    const others = Object.keys(probabilities).filter((label) => !given.has(label));
    this.order = [...answer.labels, ...others.sort((a, b) => margin(b) - margin(a))];
    this.unmoved = makeDecision({ ...answer, by_rules: [] }, new Map(Object.entries(thresholds)));
    this.decision = this.unmoved;
    this.addRows(Math.max(ROWS_SHOWN, answer.labels.length));
    this.update();
    decideSoon();
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
      answer = await send(this.file, "/explain", { label });
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

  reaches(label, threshold) {
    return this.answer.probabilities[label] >= Math.fround(threshold); // the server compares numbers of 32 bits
  }

  // Labels that are given below their thresholds, or left out above them: that is what rules do.
  isByRule(label) {
    return this.differs(this.decision, label);
  }

  differs(decision, label) {
    return decision.given.has(label) !== this.reaches(label, decision.thresholds.get(label));
  }

  // Whether the server has to say more than the answer did.
  isOpen() {
    if (!this.decision || this.version === version) return false;
    if (moved.size) return true;
    return this.unmoved.by_rules.length === 0 && this.order.some((label) => this.differs(this.unmoved, label));
  }

  // Whether what it would have with the thresholds as they are is not known: not yet, or the model is gone.
  isUndecided() {
    return moved.size > 0 && this.decision !== null && (this.isForeign || this.isOpen());
  }

  decide(decided) {
    this.version = version;
    this.notes = decided.notes;
    this.isForeign = decided.model !== this.answer.model;
    if (!this.isForeign) {
      this.decision = makeDecision(decided, new Map([...this.unmoved.thresholds, ...moved]));
      if (!moved.size) this.unmoved = this.decision;
    }
    this.update();
  }

  update() {
    if (!this.decision) return;
    const { labels, given: now, by_rules: effects } = this.decision;
    const before = new Set(this.answer.labels);
    const chips = labels.map((label) => makeChip(label, before.has(label) ? "" : "plus", this.isByRule(label)));
    const gone = this.answer.labels.filter((label) => !now.has(label));
    chips.push(...gone.map((label) => makeChip(label, "minus", this.isByRule(label))));
    const left = this.order.filter((label) => !now.has(label) && !before.has(label) && this.isByRule(label));
    if (left.length <= NAMES_SHOWN) chips.push(...left.map((label) => makeChip(label, "left", true)));
    this.find(".given").replaceChildren(...chips);
    const lines = effects.slice(0, RULES_SHOWN).map(describeEffect);
    if (effects.length > RULES_SHOWN) lines.push(`and ${count(effects.length - RULES_SHOWN, "more rule", "more rules")}`);
    this.find(".why").replaceChildren(...lines.map(makeItem));
    const notes = [labels.length ? "" : "None of the labels.", this.decision.needs_person ? "A person should look at it." : ""];
    this.find(".note").textContent = notes.filter(Boolean).join(" ");
    for (const [label, row] of this.rows) this.updateRow(label, row, now.has(label));
  }

  updateRow(label, row, isGiven) {
    const threshold = thresholdOf(label);
    const probability = this.answer.probabilities[label];
    const isReached = this.reaches(label, threshold);
    // A mark on the other side than when it was decided says neither that the label is given nor that it is not.
    const isUnknown = this.isUndecided() && isReached !== this.reaches(label, this.decision.thresholds.get(label));
    row.classList.toggle("is-given", isGiven && !isUnknown);
    row.classList.toggle("is-changed", moved.has(label));
    const slider = row.querySelector("input");
    slider.value = threshold;
    const rule = this.isByRule(label) && !isUnknown ? "by a rule" : "";
    const output = row.querySelector("output");
    output.textContent = compare(probability, threshold, isReached);
    if (rule) output.append(makeSmall(rule));
    const state = isUnknown ? "not decided" : `${isGiven ? "given" : "not given"} ${rule}`.trim();
    slider.setAttribute("aria-valuetext", `${threshold.toFixed(3)}, probability ${probability.toFixed(3)}, ${state}`);
  }

  describe() {
    if (!this.decision) return this.answer;
    const { labels, thresholds } = this.decision;
    const { image, model, error, probabilities } = this.answer;
    const pick = (value) => Object.fromEntries(labels.map((label) => [label, value(label)]));
    const shown = {
      image, labels, probabilities: pick((label) => probabilities[label]), thresholds: pick((label) => thresholds.get(label)), model, error,
    };
    const { needs_person } = this.decision;
    return needs_person === undefined ? shown : { ...shown, needs_person };
  }

  writeCurl() {
    const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    const type = this.file.type.startsWith("image/") ? this.file.type : "application/octet-stream";
    const access = token ? ` ${ACCESS}` : "";
    const address = `${location.origin}/predict?${new URLSearchParams({ name: cutName(this.file) })}`;
    return `curl${access} -H ${quote(`Content-Type: ${type}`)} --data-binary ${quote(`@${this.file.name}`)} ${quote(address)}`;
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

// What is shown of an image: an answer of /predict or /decide, and all thresholds that it was decided with.
function makeDecision({ labels, by_rules, needs_person }, thresholds) {
  return { labels, by_rules, needs_person, thresholds, given: new Set(labels) };
}

function compare(probability, threshold, isReached) {
  // As many digits as it takes to see which is larger.
  let digits = 2;
  while (digits < 7 && probability.toFixed(digits) === threshold.toFixed(digits)) digits += 1;
  return `${probability.toFixed(digits)} ${isReached ? "≥" : "<"} ${threshold.toFixed(digits)}`;
}

function makeItem(text) {
  const item = document.createElement("li");
  item.textContent = text;
  return item;
}

function makeSmall(text) {
  const small = document.createElement("small");
  small.textContent = text;
  return small;
}

function makeChip(label, change, isByRule) {
  const chip = makeItem(change === "plus" ? `+ ${label}` : label);
  if (change) chip.className = change;
  if (change === "minus" || change === "left") {
    const name = document.createElement("s");
    name.textContent = label;
    chip.replaceChildren(name);
    chip.title = change === "minus" ? "no longer given" : "not given";
  }
  if (isByRule) chip.append(" ", makeSmall("by a rule"));
  return chip;
}

function describeEffect({ rule, added, removed }) {
  const list = (labels) => (labels.length > NAMES_SHOWN
    ? `${labels.slice(0, NAMES_SHOWN).join(", ")} and ${labels.length - NAMES_SHOWN} more` : labels.join(", "));
  const parts = [added.length ? `adds ${list(added)}` : "", removed.length ? `leaves out ${list(removed)}` : ""];
  return `Rule “${rule}”: ${parts.filter(Boolean).join(", ")}.`;
}

// --- thresholds ----------------------------------------------------------------------------------------------------

function moveThreshold(label, value) {
  if (Math.abs(value - own.get(label)) < 0.0005) moved.delete(label);
  else moved.set(label, value);
  showMoved();
}

function resetThresholds() {
  moved.clear();
  showMoved();
  byId("files").focus();
}

// Marks move at once, labels when the server has decided; where nothing is moved it has done so before.
function showMoved() {
  version += 1;
  for (const card of cards) {
    if (!moved.size && card.decision) card.decision = card.unmoved;
    card.update();
  }
  tellChanges();
  decideSoon();
}

let isDeciding = false;

// One question at a time, about cards that were not decided with the thresholds as they are: what an image was told stays
// while others come, and is thrown away only where a threshold has moved meanwhile.
async function decideSoon() {
  if (isDeciding) return;
  isDeciding = true;
  let problem = "";
  try {
    while (!problem && listOpen().length) {
      byId("images").setAttribute("aria-busy", "true");
      await new Promise((wake) => setTimeout(wake, DECIDE_AFTER_MS));
      problem = await decideSome(takeGroup(listOpen()));
    }
  } finally {
    isDeciding = false;
    byId("images").removeAttribute("aria-busy");
  }
  tellDecided(problem);
}

const listOpen = () => [...cards].filter((card) => card.isOpen()).sort((a, b) => b.group - a.group); // as they stand

// Returns what is wrong, if anything is.
async function decideSome(group) {
  if (!group.length) return ""; // all were removed, or moved back
  const asked = version;
  let answers;
  try {
    answers = await askToDecide(group);
  } catch {
    answers = { error: { message: "The server does not answer." } };
  }
  if (asked !== version) return "";
  if (answers.error) return answers.error.message;
  group.forEach((card, place) => card.decide(answers[place]));
  tellDecided("");
  return "";
}

function tellDecided(problem) {
  const decided = [...cards].filter((card) => moved.size && card.version === version);
  const isForeign = decided.some((card) => card.isForeign);
  const other = isForeign ? "The server has another model now: add the images again." : "";
  tellProblem(moved.size ? problem || other : "");
  byId("notes").textContent = [...new Set(decided.flatMap((card) => card.notes))].join(" ");
  tellChanges();
}

function askToDecide(group) {
  const probabilities = group.map((card) => card.answer.probabilities);
  const body = JSON.stringify({ probabilities, thresholds: Object.fromEntries(moved) });
  return post("/decide", "application/json", body, { signal: AbortSignal.timeout(DECIDE_WITHIN_MS) });
}

// As many of the cards as make one question that the server takes.
function takeGroup(open) {
  let left = DECIDE_CHARACTERS;
  let number = 0;
  for (const card of open.slice(0, DECIDED_AT_ONCE)) {
    left -= JSON.stringify(card.answer.probabilities).length;
    if (left < 0 && number) break;
    number += 1;
  }
  return open.slice(0, number);
}

function tellProblem(problem) {
  byId("undecided").textContent = problem && `${problem} The labels are those of before.`;
  byId("again").hidden = !problem;
}

function tellChanges() {
  byId("changes").hidden = moved.size === 0;
  const lines = [...moved].slice(0, 3).map(([label, value]) => `threshold of ${label} ${own.get(label).toFixed(3)} → ${value.toFixed(3)}`);
  if (moved.size > 3) lines.push(`${moved.size - 3} more`);
  let numChanged = 0;
  for (const card of cards) {
    if (!card.decision) continue;
    const now = card.decision.labels;
    const before = new Set(card.answer.labels);
    if (now.length !== before.size || now.some((label) => !before.has(label))) numChanged += 1;
  }
  const isKnown = ![...cards].some((card) => card.isUndecided());
  const changed = isKnown ? `${count(numChanged, "image has", "images have")} other labels.` : "it is not known which images have other labels.";
  byId("changed").textContent = `${lines.join(", ")}: ${changed}`;
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
byId("again").addEventListener("click", () => { byId("reset").focus(); version += 1; decideSoon(); });
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
