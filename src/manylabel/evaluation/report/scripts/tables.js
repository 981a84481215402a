"use strict";
// Tables that sort by a click on a heading, filter by their first column, and turn pages when they are long.
const tableRows = table => table.allRows ?? [...table.tBodies[0].rows];

function watchTable(table, field) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const perPage = Number(table.dataset.page ?? Infinity);
  const bar = document.createElement("div");
  const words = document.createElement("span");
  let page = 0;
  table.allRows = [...body.rows];
  const read = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const isNumber = column => heads[column].classList.contains("number");
  const toNumber = text => text === "" ? NaN : Number(text.replaceAll(",", ""));

  const show = () => {
    const wanted = (field?.value ?? "").toLocaleLowerCase();
    const rows = wanted ? table.allRows.filter(row => row.cells[0].textContent.toLocaleLowerCase().includes(wanted)) : table.allRows;
    const numPages = Math.max(1, Math.ceil(rows.length / perPage));
    page = Math.min(page, numPages - 1);
    const first = numPages > 1 ? page * perPage : 0;
    const shown = rows.slice(first, numPages > 1 ? first + perPage : undefined);
    body.replaceChildren(...shown);
    bar.hidden = numPages === 1 && rows.length === table.allRows.length;
    words.textContent = rows.length ? `${(first + 1).toLocaleString("en-US")} to ${(first + shown.length).toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")}` : "No label has this in its name.";
    for (const button of bar.querySelectorAll("button")) button.disabled = Number(button.dataset.turn) < 0 ? page === 0 : page >= numPages - 1;
  };

  const sort = (head, column) => {
    const first = isNumber(column) ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const keys = new Map(table.allRows.map(row => [row, isNumber(column) ? toNumber(read(row, column)) : read(row, column)]));
    table.allRows.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (isNumber(column) ? x - y : x.localeCompare(y));
    });
    heads.forEach(each => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    page = 0;
    show();
  };

  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(head, column)));
  if (field) {
    field.hidden = false;
    field.addEventListener("input", () => { page = 0; show(); });
  }
  bar.className = "pages";
  words.setAttribute("role", "status");
  for (const [turn, name] of [[-1, "Previous page"], [1, "Next page"]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.turn = turn;
    button.textContent = name;
    button.addEventListener("click", () => { page += turn; show(); });
    bar.append(button);
  }
  bar.insertBefore(words, bar.lastChild);
  (table.closest(".scroll") ?? table).after(bar);
  show();
}

for (const table of document.querySelectorAll("table.sortable"))
  watchTable(table, document.querySelector(`input.filter[data-table="${table.id}"]`));
