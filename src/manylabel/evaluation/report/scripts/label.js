// One label from close by: curves, a threshold to move, what it does, and the worst images.
class LabelPanel {
  constructor(section, part, thumbnails) {
    Object.assign(this, {section, part, thumbnails, panel: section.querySelector(".label")});
    this.slider = this.panel.querySelector("input[type=range]");
    this.output = this.panel.querySelector("output");
    this.slider.addEventListener("input", () => this.show());
    for (const button of this.panel.querySelectorAll("[data-step]"))
      button.addEventListener("click", () => this.pick(this.next(Number(button.dataset.step)), false));
    for (const button of this.panel.querySelectorAll("[data-jump]"))
      button.addEventListener("click", () => { this.slider.value = this.find(button.dataset.jump); this.show(); });
  }
  // The order of the table is the order of "next".
  next(step) {
    const rows = this.rows();
    const place = rows.findIndex(row => Number(row.dataset.place) === this.place);
    return Number(rows[(place + step + rows.length) % rows.length].dataset.place);
  }
  rows() {
    return tableRows(this.section.querySelector("table.sortable"));
  }
  pick(place, isFocused = true) {
    this.place = place;
    const {part, panel} = this;
    const [first, end] = [part.starts[place], part.starts[place + 1]];
    this.points = Array.from({length: end - first}, (_, step) => {
      const point = first + step;
      return this.judge(part.thresholds[point], part.found[point], part.wrong[point]);
    });
    panel.hidden = false;
    const [heading, positives, known] = [panel.querySelector("h4"), part.positives[place], part.positives[place] + part.negatives[place]];
    heading.textContent = part.labels[place];
    panel.querySelector("[data-show=shown]").textContent = `${formatNumber(positives)} of ${formatNumber(known)} images show it (${formatShare(positives / known)}); average precision ${formatValue(part.average_precision[place])}.`;
    this.slider.max = this.points.length - 1;
    this.slider.value = this.find("chosen");
    this.drawCurves();
    drawReliability(panel.querySelector("[data-chart=reliability-label]"), part.reliability, place * part.num_bins, part.num_bins, {title: "Reliability of this label"});
    this.showMistakes();
    this.show();
    for (const row of this.rows()) row.toggleAttribute("data-picked", Number(row.dataset.place) === place);
    this.dots?.forEach((node, own) => node.classList.toggle("picked", own === place));
    const dot = this.dots?.get(place);
    if (dot) dot.parentNode.append(dot);  // above the others
    if (isFocused) {
      panel.scrollIntoView({block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
      heading.focus({preventScroll: true});
    }
  }
  judge(threshold, found, wrong) {
    const positives = this.part.positives[this.place];
    return {threshold, found, wrong, precision: found + wrong ? found / (found + wrong) : NaN, recall: positives ? found / positives : NaN,
      f1: positives + found + wrong ? 2 * found / (positives + found + wrong) : NaN};
  }
  find(wanted) {
    if (wanted === "best") {
      const best = Math.max(...this.points.map(point => point.f1 || 0));
      return this.points.findLastIndex(point => (point.f1 || 0) === best);
    }
    const threshold = wanted === "half" ? 0.5 : this.part.chosen[this.place];
    return Math.max(0, this.points.findIndex(point => point.threshold === threshold));
  }
  drawCurves() {
    const {part, place, points, panel} = this;
    const hosts = ["precision-recall", "thresholds"].map(name => panel.querySelector(`[data-chart=${name}]`));
    this.ranking = this.sweep = null;
    if (!part.positives[place]) return hosts.forEach(host => sayInstead(host, "No known image shows this label, so there is no curve."));
    const prevalence = part.positives[place] / (part.positives[place] + part.negatives[place]);
    const ranking = new Plot(hosts[0], {title: "Precision and recall", summary: `Every threshold is a point; average precision ${formatValue(part.average_precision[place])}.`,
      x: [0, 1], y: [0, 1], xTitle: "recall: share of the shown that is found", yTitle: "precision"});
    ranking.line([[0, prevalence], [1, prevalence]], "soft dashed");
    ranking.line(points.filter(point => Number.isFinite(point.precision)).map(point => [point.recall, point.precision]), "right");
    const chosen = points[this.find("chosen")];
    if (Number.isFinite(chosen.precision)) ranking.dot(chosen.recall, chosen.precision, "hollow", 6, "the chosen threshold");
    ranking.legend([["guessing", "soft dashed"]]);
    this.ranking = [ranking, ranking.dot(0, 0, "wrong", 6)];
    const used = points.filter(point => point.found + point.wrong > 0).map(point => point.threshold);
    const high = Math.min(1, Math.max(0.02, ...used, chosen.threshold) * 1.05);
    const sweep = new Plot(hosts[1], {title: "By threshold", summary: "Precision, recall and F1 of this label at every threshold.", x: [0, high], y: [0, 1], xTitle: "threshold"});
    const inside = points.filter(point => point.threshold <= high);
    // A threshold decides like every other one down to the next probability below it: steps, not slopes.
    const steps = name => inside.flatMap((point, place) => [[inside[Math.max(0, place - 1)].threshold, point[name]], [point.threshold, point[name]]]);
    sweep.line(steps("precision"), "right");
    sweep.line(steps("recall"), "wrong dotted");
    sweep.line(steps("f1"), "ink dashed");
    sweep.upright(chosen.threshold, "soft dashed");
    sweep.legend([["precision", "right"], ["recall", "wrong dotted"], ["F1", "ink dashed"]]);
    this.sweep = [sweep, sweep.upright(chosen.threshold, "wrong"), high];
  }
  show() {
    const {part, place, points, slider} = this;
    const point = points[Number(slider.value)];
    const [positives, negatives] = [part.positives[place], part.negatives[place]];
    const counts = [[point.found, positives], [positives - point.found, positives], [point.wrong, negatives], [negatives - point.wrong, negatives]];
    const where = `${formatValue(point.threshold)}${point.threshold === part.chosen[place] ? ", the chosen one" : ""}`;
    this.output.textContent = `Threshold ${where}: ${formatNumber(counts[0][0])} found, ${formatNumber(counts[1][0])} missed, ${formatNumber(counts[2][0])} wrongly given. Precision ${formatValue(point.precision)}, recall ${formatValue(point.recall)}, F1 ${formatValue(point.f1)}.`;
    slider.setAttribute("aria-valuetext", `threshold ${where}`);
    [...this.panel.querySelectorAll(".quarter")].forEach((quarter, cell) => {
      const [number, total] = counts[cell];
      quarter.style.setProperty("--strength", total ? Math.round(8 + 62 * number / total) : 0);
      quarter.querySelector("b").textContent = formatNumber(number);
      quarter.querySelector("span").textContent = formatShare(total ? number / total : NaN);
    });
    if (this.ranking) this.ranking[0].move(this.ranking[1], point.recall, point.precision);
    if (this.sweep) {
      this.sweep[0].slide(this.sweep[1], Math.min(point.threshold, this.sweep[2]));
    }
  }
  showMistakes() {
    const {part, place, panel, thumbnails} = this;
    let isAnyLeftOut = false;
    for (const kind of ["missed", "given"]) {
      const strip = panel.querySelector(`[data-show=${kind}]`);
      const mistakes = part.worst[kind][place];
      isAnyLeftOut ||= mistakes.some(([image]) => part.worst.images[image][3] < 0);
      strip.replaceChildren(...mistakes.map(([image, probability]) => showImage(part, thumbnails, image, `probability ${formatValue(probability)}`)));
      if (!mistakes.length) sayInstead(strip, "None.");
    }
    panel.querySelector("[data-show=pictures]").textContent = !isAnyLeftOut ? "" : thumbnails.length
      ? "Some pictures are left out to keep this page small." : "Pictures are left out: the image files were not at hand when this page was written.";
  }
}

// An image with what is there and what was said of it.
function showImage(part, thumbnails, place, remark, heat = null) {
  const [name, truth, given, number] = part.worst.images[place];
  const figure = frameImage(thumbnails, number, [["bdi", name], ["b", remark], ["span", `is: ${listLabels(part, truth)}`], ["span", `given: ${listLabels(part, given)}`]]);
  if (heat) {
    figure.lastChild.before(Object.assign(document.createElement("img"), {src: heat.picture, alt: heat.text, title: heat.text}));
    if (heat.is_doubtful) figure.lastChild.append(Object.assign(line("span", "the map is doubtful"), {className: "doubt"}));
  }
  return figure;
}

// A picture, where there is one, above lines of text: an element's name and what it says.
function frameImage(thumbnails, number, lines) {
  const figure = document.createElement("figure");
  if (number >= 0) figure.append(Object.assign(document.createElement("img"), {src: thumbnails[number], alt: ""}));
  else if (thumbnails.length) figure.append(Object.assign(line("div", "left out"), {className: "none"}));
  const caption = document.createElement("figcaption");
  caption.append(...lines.map(([element, text]) => line(element, text)));
  figure.append(caption);
  return figure;
}

function listLabels(part, places) {
  if (!places.length) return "none";
  const names = places.slice(0, 4).map(place => shorten(part.labels[place], 24));
  return names.join(", ") + (places.length > names.length ? ` and ${places.length - names.length} more` : "");
}

function line(name, text) {
  const node = document.createElement(name);
  node.textContent = text;
  return node;
}
