// Puts the charts into the page; a folded part is drawn when it is opened.
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const chartIn = (host, name) => host.querySelector(`[data-chart=${name}]`);

  const drawPart = section => {
    const packed = data.parts[Number(section.dataset.part)];
    const part = {...unpackAll(packed), reliability: unpackAll(packed.reliability)};
    const panel = new LabelPanel(section, part, data.thumbnails);
    drawSizes(chartIn(section, "sizes"), part);
    drawReliability(chartIn(section, "reliability"), unpackAll(packed.pooled), 0, part.num_bins, {title: "All labels together", width: 940, height: 330});
    panel.dots = drawOverview(chartIn(section, "overview"), part, place => panel.pick(place));
    for (const row of panel.rows()) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "pick";
      button.append(...row.cells[0].childNodes);
      button.addEventListener("click", () => panel.pick(Number(row.dataset.place)));
      row.cells[0].append(button);
    }
    section.querySelector("[data-show=worst]").replaceChildren(...part.overall.map(([column, isMissed, image, probability, heat]) =>
      showImage(part, data.thumbnails, image, `${shorten(part.labels[column], 30)} ${isMissed ? "missed" : "wrongly given"} at ${formatValue(probability)}`, heat)));
    section.querySelector("[data-show=suspects]")?.replaceChildren(...part.suspects.map(([name, number, remark]) =>
      frameImage(data.thumbnails, number, [["bdi", name], ["b", remark]])));
    for (const node of section.querySelectorAll(".needs-script")) node.hidden = false;
    if (!data.thumbnails.length) {
      for (const strip of section.querySelectorAll("[data-show=worst], [data-show=suspects]")) strip.hidden = true;
    }
    if (part.labels.length) panel.pick(Number(panel.rows()[0].dataset.place), false);
  };

  for (const section of document.querySelectorAll(".part")) {
    const fold = section.querySelector("details.more");
    if (!fold) drawPart(section);
    else fold.addEventListener("toggle", () => drawPart(section), {once: true});
  }
  for (const link of document.querySelectorAll(".contents a")) {
    link.addEventListener("click", () => {
      const fold = document.querySelector(link.getAttribute("href")).querySelector("details.more");
      if (fold) fold.open = true;
    });
  }
  if (data.history) {
    const history = data.history;
    drawHistory(document.querySelector("[data-chart=loss]"), history, [["training", history.train_loss, "right"], ["validation", history.val_loss, "wrong dotted"]], "Loss");
    drawHistory(document.querySelector("[data-chart=monitor]"), history, [["", history.val_monitor, "right"]], `${history.monitor}, validation`, history.best);
  }
}
