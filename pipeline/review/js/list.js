// A list of any length: only the rows that can be seen are in the document.
"use strict";

vadpipe.List = class {
  // fill(row, index) writes a row; open(index) is called when one is chosen.
  constructor(box, { height, make, fill, open, label }) {
    this.box = box;
    this.height = height;
    this.make = make;
    this.fill = fill;
    this.open = open;
    this.rows = new Map();
    this.spare = [];
    this.length = 0;
    this.chosen = -1;
    this.active = -1; // where the arrow keys are
    this.space = vadpipe.el("div.space", { role: "listbox", "aria-label": label, tabindex: "0" });
    this.space.addEventListener("keydown", (event) => this.key(event));
    this.space.addEventListener("focus", () => this.point(this.active < 0 ? Math.max(this.chosen, 0) : this.active));
    this.space.addEventListener("blur", () => this.mark(-1));
    box.replaceChildren(this.space);
    box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(box);
    this.space.addEventListener("click", (event) => {
      const row = event.target.closest("[data-index]");
      if (row) this.open(Number(row.dataset.index));
    });
  }

  // Arrows, Page Up and Down, Home and End go through the list, Enter opens.
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(Math.floor(this.box.clientHeight / this.height) - 1, 1), last = this.length - 1;
    const to = {
      ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page, Home: 0, End: last,
    }[event.key];
    if (event.key === "Enter" && this.active >= 0) this.open(this.active);
    else if (to !== undefined) this.point(Math.min(Math.max(to, 0), last));
    else return;
    event.preventDefault();
  }

  // Go to a row, without opening it.
  point(index) {
    this.active = this.length ? index : -1;
    if (this.active < 0) return;
    this.reveal(index);
    this.mark(index);
  }

  mark(index) {
    for (const [i, row] of this.rows) row.classList.toggle("active", i === index);
    const row = this.rows.get(index < 0 ? this.chosen : index);
    if (row) this.space.setAttribute("aria-activedescendant", row.id);
    else this.space.removeAttribute("aria-activedescendant");
  }

  show(length, chosen) {
    this.length = length;
    this.chosen = chosen;
    this.active = Math.min(this.active, length - 1);
    this.space.style.height = `${length * this.height}px`;
    for (const row of this.rows.values()) this.free(row);
    this.rows.clear();
    this.draw();
  }

  choose(index) {
    this.chosen = index;
    if (index >= 0) {
      this.active = index;
      this.reveal(index);
    }
    for (const [i, row] of this.rows) row.setAttribute("aria-selected", i === index);
    const row = this.rows.get(index);
    if (row) this.space.setAttribute("aria-activedescendant", row.id);
    else this.space.removeAttribute("aria-activedescendant");
  }

  reveal(index) {
    const top = index * this.height, { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.box.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) this.box.scrollTop = top + this.height - clientHeight;
    this.draw();
  }

  free(row) {
    row.remove();
    if (this.spare.length < 60) this.spare.push(row);
  }

  draw() {
    const first = Math.max(Math.floor(this.box.scrollTop / this.height) - 3, 0);
    const last = Math.min(Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + 3, this.length);
    for (const [i, row] of this.rows) {
      if (i < first || i >= last) {
        this.free(row);
        this.rows.delete(i);
      }
    }
    for (let i = first; i < last; i++) {
      if (this.rows.has(i)) continue;
      const row = this.spare.pop() || this.make();
      row.id = `${this.space.getAttribute("aria-label")}-${i}`.replaceAll(" ", "-");
      row.dataset.index = i;
      row.style.transform = `translateY(${i * this.height}px)`;
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", i === this.chosen);
      row.classList.toggle("active", i === this.active && document.activeElement === this.space);
      row.setAttribute("aria-posinset", i + 1);
      row.setAttribute("aria-setsize", this.length);
      this.fill(row, i);
      this.rows.set(i, row);
      this.space.append(row);
    }
  }

  refresh() {
    for (const [i, row] of this.rows) this.fill(row, i);
  }
};
