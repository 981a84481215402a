// A chart as inline SVG: axes, lines, dots and bars; colours come from the style sheet.
function draw(name, attributes = {}, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

function niceTicks(low, high, wanted = 5) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find(factor => factor * power >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) ticks.push(Number(tick.toPrecision(10)));
  return ticks;
}

class Plot {
  // x and y: [low, high]; ticks are chosen unless given as pairs of value and text.
  constructor(host, {title, summary, x, y, xTitle, yTitle = "", xTicks = null, yTicks = null, width = 460, height = 290, isLog = false}) {
    Object.assign(this, {host, x, y, width, height, isLog, left: 52, right: 14, top: 34, bottom: 42});
    host.replaceChildren();
    this.svg = draw("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. ${summary}`});
    host.append(this.svg);
    this.svg.append(draw("text", {x: 8, y: 16, class: "title"}, title));
    for (const [value, text] of yTicks ?? niceTicks(...y).map(tick => [tick, formatTick(tick)])) {
      const at = this.atY(value);
      this.svg.append(draw("line", {x1: this.left, x2: width - this.right, y1: at, y2: at, class: "grid"}));
      this.svg.append(draw("text", {x: this.left - 7, y: at + 4, "text-anchor": "end"}, text));
    }
    for (const [value, text] of xTicks ?? niceTicks(...x).map(tick => [tick, formatTick(tick)])) {
      const at = this.atX(value);
      this.svg.append(draw("line", {x1: at, x2: at, y1: height - this.bottom, y2: height - this.bottom + 4, class: "axis"}));
      this.svg.append(draw("text", {x: at, y: height - this.bottom + 17, "text-anchor": "middle"}, text));
    }
    this.svg.append(draw("line", {x1: this.left, x2: width - this.right, y1: height - this.bottom, y2: height - this.bottom, class: "axis"}));
    this.svg.append(draw("text", {x: (this.left + width - this.right) / 2, y: height - 6, "text-anchor": "middle", class: "name"}, xTitle));
    if (yTitle) this.svg.append(draw("text", {x: 13, y: (this.top + height - this.bottom) / 2, "text-anchor": "middle", class: "name", transform: `rotate(-90 13 ${(this.top + height - this.bottom) / 2})`}, yTitle));
  }
  atX(value) {
    const scale = this.isLog ? Math.log10 : number => number;
    const [low, high] = this.x.map(scale);
    return this.left + (scale(value) - low) / (high - low || 1) * (this.width - this.left - this.right);
  }
  atY(value) {
    return this.height - this.bottom - (value - this.y[0]) / (this.y[1] - this.y[0] || 1) * (this.height - this.top - this.bottom);
  }
  // A line breaks where a value is not a number.
  line(points, kind) {
    let path = "";
    let isPenDown = false;
    for (const [x, y] of points) {
      const isDrawn = Number.isFinite(x) && Number.isFinite(y);
      if (isDrawn) path += `${isPenDown ? "L" : "M"}${this.atX(x).toFixed(1)} ${this.atY(y).toFixed(1)}`;
      isPenDown = isDrawn;
    }
    const node = draw("path", {d: path, class: `line ${kind}`});
    this.svg.append(node);
    return node;
  }
  dot(x, y, kind, radius = 4, title = "") {
    const node = draw("circle", {cx: this.atX(x).toFixed(1), cy: this.atY(y).toFixed(1), r: radius, class: `dot ${kind}`});
    if (title) node.append(draw("title", {}, title));
    this.svg.append(node);
    return node;
  }
  move(node, x, y) {
    const isShown = Number.isFinite(x) && Number.isFinite(y);
    node.setAttribute("visibility", isShown ? "visible" : "hidden");
    if (isShown) { node.setAttribute("cx", this.atX(x)); node.setAttribute("cy", this.atY(y)); }
  }
  bar(from, to, value, kind, title) {
    const [left, right, top, bottom] = [this.atX(from), this.atX(to), this.atY(value), this.atY(this.y[0])];
    const node = draw("rect", {x: left.toFixed(1), y: top.toFixed(1), width: Math.max(0.5, right - left).toFixed(1), height: Math.max(0, bottom - top).toFixed(1), class: `fill ${kind}`});
    node.append(draw("title", {}, title));
    this.svg.append(node);
  }
  upright(x, kind) {
    const node = draw("line", {x1: this.atX(x), x2: this.atX(x), y1: this.top, y2: this.height - this.bottom, class: `line ${kind}`});
    this.svg.append(node);
    return node;
  }
  slide(node, x) {
    node.setAttribute("x1", this.atX(x));
    node.setAttribute("x2", this.atX(x));
  }
  // Entries are pairs of text and kind, written from the right above the chart.
  legend(entries) {
    let right = this.width - this.right;
    for (const [text, kind, isFilled] of [...entries].reverse()) {
      const words = draw("text", {x: right, y: 16, "text-anchor": "end"}, text);
      this.svg.append(words);
      right -= words.getComputedTextLength() + 7;
      this.svg.append(isFilled
        ? draw("rect", {x: right - 12, y: 7, width: 12, height: 10, class: `fill ${kind}`})
        : draw("line", {x1: right - 18, x2: right, y1: 12, y2: 12, class: `line ${kind}`}));
      right -= isFilled ? 24 : 30;
    }
  }
}

function formatTick(tick) {
  return Math.abs(tick) >= 1000 ? tick.toLocaleString("en-US") : String(Number(tick.toPrecision(6)));
}

function sayInstead(host, text) {
  const words = document.createElement("p");
  words.className = "soft";
  words.textContent = text;
  host.replaceChildren(words);
}
