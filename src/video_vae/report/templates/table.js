"use strict";
/* Table of all clips: sorted by any column, filtered by name, shown in pages so that thousands stay quick. */
class ClipTable {
  static PAGE = 20;

  constructor(table, data, open) {
    this.table = table;
    this.data = data;
    this.open = open;
    this.columns = [{ key: "clip", label: "Clip" }, { key: "frames", label: "Frames", decimals: 0 }, ...data.columns];
    this.embedded = new Map((data.embedded || []).map((id, index) => [id, index]));
    this.rows = data.rows;
    this.sort = { column: Math.max(0, this.columns.findIndex((column) => column.key === "psnr")), down: false };
    this.shown = ClipTable.PAGE;
    this.filter = "";
    this.head();
    this.more = document.getElementById("clip-more");
    this.more.addEventListener("click", () => { this.shown *= 4; this.body(); });
    document.getElementById("clip-filter").addEventListener("input", (event) => {
      this.filter = event.target.value.toLowerCase();
      this.shown = ClipTable.PAGE;
      this.body();
    });
    this.body();
  }

  head() {
    const row = document.createElement("tr");
    this.columns.forEach((column, index) => {
      const cell = document.createElement("th");
      cell.scope = "col";
      if (index) cell.className = "num";
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = column.label;
      button.addEventListener("click", () => this.sortBy(index));
      cell.append(button);
      row.append(cell);
    });
    this.table.tHead.replaceChildren(row);
  }

  sortBy(index) {
    /* the worst first: down where lower is better */
    this.sort = { column: index, down: this.sort.column === index ? !this.sort.down : this.columns[index].higher === false };
    this.body();
  }

  ordered() {
    const { column, down } = this.sort;
    const missing = (value) => value === null || value === undefined;
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    return this.rows
      .filter((row) => row[0].toLowerCase().includes(this.filter))
      .sort((first, second) => {
        const [a, b] = [first[column], second[column]];
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        return down ? compare(b, a) : compare(a, b);
      });
  }

  body() {
    [...this.table.tHead.rows[0].cells].forEach((cell, index) => {
      const now = index === this.sort.column;
      cell.setAttribute("aria-sort", now ? (this.sort.down ? "descending" : "ascending") : "none");
    });
    const rows = this.ordered();
    this.table.tBodies[0].replaceChildren(...rows.slice(0, this.shown).map((row) => this.row(row)));
    this.more.hidden = rows.length <= this.shown;
    document.getElementById("clip-count").textContent = rows.length === 1 ? "1 clip" : `${rows.length} clips`;
    this.mark(this.current);
  }

  row(values) {
    const row = document.createElement("tr");
    row.dataset.clip = values[0];
    values.forEach((value, index) => {
      const cell = document.createElement("td");
      if (index) cell.className = "num";
      if (index === 0 && this.embedded.has(value)) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = value;
        button.addEventListener("click", () => this.open(this.embedded.get(value)));
        cell.append(button);
      } else if (index === 0) {
        cell.textContent = value;
      } else {
        const text = value === null ? "–" : value.toFixed(this.columns[index].decimals);
        cell.textContent = text.replace("-", "−");
      }
      row.append(cell);
    });
    return row;
  }

  mark(clip) {
    this.current = clip;
    for (const row of this.table.tBodies[0].rows) {
      if (row.dataset.clip === clip) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  }
}
