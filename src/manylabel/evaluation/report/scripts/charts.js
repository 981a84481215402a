// The charts of a whole part and of the training.
function drawSizes(host, part) {
  const [truth, given] = [part.num_true_labels, part.num_given_labels];
  const most = Math.max(truth.length, given.length);
  if (!most) return;
  const high = Math.max(...truth, ...given);
  const step = Math.max(1, Math.ceil(most / 16));
  const plot = new Plot(host, {
    title: "Labels per image", summary: "In truth and as given; the same numbers stand in the table below.",
    x: [-0.6, most - 0.4], y: [0, high * 1.05], xTitle: "labels of an image", yTitle: "images", width: 940, height: 250,
    xTicks: Array.from({length: Math.ceil(most / step)}, (_, place) => [place * step, String(place * step)]),
  });
  for (let size = 0; size < most; size++) {
    const [own, said] = [truth[size] ?? 0, given[size] ?? 0];
    plot.bar(size - 0.38, size, own, "soft", `${size} labels: ${formatNumber(own)} images in truth`);
    plot.bar(size, size + 0.38, said, "right", `${size} labels: ${formatNumber(said)} images as given`);
  }
  plot.legend([["in truth", "soft", true], ["given", "right", true]]);
}

const FEW_DECISIONS = 10;

function drawReliability(host, bins, first, numBins, {title, width = 460, height = 290}) {
  const rows = Array.from({length: numBins}, (_, place) => first + place).filter(row => bins.num[row] > 0);
  if (!rows.length) return sayInstead(host, "No truth is known, so nothing can be said of the probabilities.");
  const plot = new Plot(host, {title, summary: "Mean probability across, share that is true upward; on the dashed line both agree.",
    x: [0, 1], y: [0, 1], xTitle: "probability", yTitle: "share that is true", width, height});
  const most = Math.max(...rows.map(row => Math.log10(1 + bins.num[row])));
  for (const row of rows) {
    const bin = row - first;
    plot.bar((bin + 0.1) / numBins, (bin + 0.9) / numBins, 0.22 * Math.log10(1 + bins.num[row]) / most, "faint",
      `${(bin / numBins).toFixed(2)} to ${((bin + 1) / numBins).toFixed(2)}: ${formatNumber(bins.num[row])} decisions`);
  }
  plot.line([[0, 0], [1, 1]], "soft dashed");
  for (const row of rows) plot.line([[bins.mean[row], bins.low[row]], [bins.mean[row], bins.high[row]]], "right thin");
  // A share of a handful says little: no line leads there, and its dot is hollow.
  plot.line(rows.map(row => [bins.mean[row], bins.num[row] < FEW_DECISIONS ? NaN : bins.share[row]]), "right");
  for (const row of rows) plot.dot(bins.mean[row], bins.share[row], bins.num[row] < FEW_DECISIONS ? "few" : "right", 4, `probability ${formatValue(bins.mean[row])}: ${formatShare(bins.share[row])} of ${formatNumber(bins.num[row])} are true`);
  plot.legend([["perfect", "soft dashed"], ["how many (log)", "faint", true]]);
}

function drawOverview(host, part, pick) {
  const places = part.labels.map((_, place) => place).filter(place => part.positives[place] > 0 && Number.isFinite(part.average_precision[place]));
  if (places.length < 2) return;
  const counts = places.map(place => part.positives[place]);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const [low, high] = [least * 0.75, Math.max(most * 1.4, least * 2)];
  const xTicks = [];
  for (let power = 1; power <= high; power *= 10) for (const factor of high / low > 3000 ? [1] : high / low > 30 ? [1, 3] : [1, 2, 3, 5, 7])
    if (power * factor >= low && power * factor <= high) xTicks.push([power * factor, formatTick(power * factor)]);
  const plot = new Plot(host, {
    title: "All labels", summary: "Average precision upward, images that show the label across; the table below lists the same numbers.",
    x: [low, high], y: [0, 1], xTitle: "images that show the label", yTitle: "average precision", width: 940, height: 330, isLog: true, xTicks,
  });
  const curve = Array.from({length: 60}, (_, step) => low * (high / low) ** (step / 59));
  plot.line(curve.map(count => [count, Math.min(1, count / part.num_images)]), "wrong dashed");
  const dots = new Map();
  const radius = places.length > 200 ? 3.5 : 5.5;
  for (const place of places) {
    const node = plot.dot(part.positives[place], part.average_precision[place], "right pick", radius,
      `${shorten(part.labels[place])}: average precision ${formatValue(part.average_precision[place])}, ${formatNumber(part.positives[place])} images`);
    node.addEventListener("click", () => pick(place));
    dots.set(place, node);
  }
  if (places.length <= 40) nameDots(plot, part, places);
  plot.legend([["guessing", "wrong dashed"]]);
  return dots;
}

// Names beside dots where they do not cross another name.
function nameDots(plot, part, places) {
  const taken = places.map(place => [plot.atX(part.positives[place]) - 5, plot.atX(part.positives[place]) + 5, plot.atY(part.average_precision[place])]);
  for (const place of [...places].sort((a, b) => part.average_precision[b] - part.average_precision[a])) {
    const text = shorten(part.labels[place], 18);
    const [x, y, length] = [plot.atX(part.positives[place]), plot.atY(part.average_precision[place]), 6.2 * text.length];
    const spots = [[x + 9, y + 4, "start", x + 9, x + 9 + length], [x - 9, y + 4, "end", x - 9 - length, x - 9]];
    const free = spots.find(([, , , left, right]) => left > plot.left + 2 && right < plot.width - 4 && !taken.some(box => left < box[1] && right > box[0] && Math.abs(y - box[2]) < 12));
    if (!free) continue;
    taken.push([free[3], free[4], y]);
    plot.svg.append(draw("text", {x: free[0].toFixed(1), y: free[1].toFixed(1), "text-anchor": free[2], class: "label-name"}, text));
  }
}

function shorten(text, length = 40) {
  return text.length > length ? text.slice(0, length - 1) + "…" : text;
}

function drawHistory(host, history, series, title, best = null) {
  const values = series.flatMap(([, column]) => column).filter(Number.isFinite);
  if (!values.length) return sayInstead(host, `${title}: no value was recorded.`);
  const epochs = history.epochs;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = (high - low || Math.abs(high) || 1) * 0.12;
  const step = Math.max(1, Math.ceil(epochs.length / 10));
  const plot = new Plot(host, {title, summary: "By epoch; the same numbers stand in the table below.",
    x: [epochs[0] - 0.3, epochs.at(-1) + 0.3], y: [low - margin, high + margin], xTitle: "epoch",
    xTicks: epochs.filter((_, place) => place % step === 0).map(epoch => [epoch, String(epoch)])});
  for (const [, column, kind] of series) {
    const points = epochs.map((epoch, place) => [epoch, column[place] ?? NaN]);
    plot.line(points, kind);
    if (epochs.length <= 30) points.filter(point => Number.isFinite(point[1])).forEach(([x, y]) => plot.dot(x, y, kind, 3));
  }
  if (best !== null) {
    const value = series[0][1][best];
    plot.dot(epochs[best], value, "wrong", 6);
    const isRight = best > epochs.length / 2;
    plot.svg.append(draw("text", {x: plot.atX(epochs[best]) + (isRight ? -10 : 10), y: plot.atY(value) + 22, "text-anchor": isRight ? "end" : "start", class: "label-name"}, `best: ${formatValue(value)} in epoch ${epochs[best]}`));
  }
  if (series.length > 1) plot.legend(series.map(([name, , kind]) => [name, kind]));
}
