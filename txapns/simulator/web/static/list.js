// The list: it may hold thousands of notifications, but only those in sight have elements.
import { clock, make, place, setText, shorten } from "./dom.js";
import { kindOf, subject, worst } from "./words.js";

const HEIGHT = 64; // px of a row, as in the style
const SPARE = 4; // rows above and below those in sight

export class List {
  // `chosen` is called with a notification when the user selects it; `opened` when they want to read it.
  constructor(chosen, opened) {
    this.box = place("rows");
    this.items = []; // oldest first; the page shows them the other way round
    this.selected = null;
    this.pool = new Map();
    this.space = make("div", { class: "space", role: "presentation" });
    this.box.append(this.space);
    this.chosen = chosen;
    this.opened = opened;
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  // Show these; `added` is how many of them are new, so that what one reads stays where it is.
  set(items, added) {
    this.items = items;
    const top = this.box.scrollTop;
    this.space.style.height = `${items.length * HEIGHT}px`;
    if (added && top > HEIGHT / 2) this.box.scrollTop = top + added * HEIGHT;
    this.draw();
  }

  select(item, reveal = false) {
    this.selected = item;
    const position = item ? this.items.length - 1 - this.find(item.id) : -1;
    if (reveal && position >= 0) {
      const top = position * HEIGHT;
      if (top < this.box.scrollTop) this.box.scrollTop = top;
      else if (top + HEIGHT > this.box.scrollTop + this.box.clientHeight) {
        this.box.scrollTop = top + HEIGHT - this.box.clientHeight;
      }
    }
    this.draw();
  }

  // Return the position of a notification by its number, by bisection; -1 if it is not there.
  find(id) {
    let [low, high] = [0, this.items.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (this.items[middle].id === id) return middle;
      if (this.items[middle].id < id) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  draw() {
    const count = this.items.length;
    const first = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(count, Math.ceil((this.box.scrollTop + this.box.clientHeight) / HEIGHT) + SPARE);
    const wanted = new Map();
    for (let n = first; n < last; n += 1) wanted.set(this.items[count - 1 - n].id, n);
    const free = [];
    for (const [id, row] of this.pool) {
      if (wanted.has(id)) continue;
      free.push(row);
      this.pool.delete(id);
    }
    for (const [id, n] of wanted) {
      let row = this.pool.get(id);
      if (!row) {
        row = free.pop() || this.space.appendChild(makeRow());
        this.pool.set(id, row);
      }
      fill(row, this.items[count - 1 - n], n, count, this.selected && this.selected.id === id);
    }
    for (const row of free) row.remove();
    const seen = this.selected && this.pool.has(this.selected.id);
    if (seen) this.box.setAttribute("aria-activedescendant", `row-${this.selected.id}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (event.key === "Enter" && this.selected) {
      event.preventDefault();
      this.opened();
      return;
    }
    const page = Math.max(1, Math.floor(this.box.clientHeight / HEIGHT) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || !this.items.length || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const last = this.items.length - 1;
    const found = this.selected ? this.find(this.selected.id) : -1;
    const now = found < 0 ? -1 : last - found;
    this.choose(last - Math.min(last, Math.max(0, now + steps[event.key])));
  }

  click(event) {
    const row = event.target.closest("[role=option]");
    if (!row) return;
    this.choose(this.find(Number(row.id.slice(4))));
    this.opened();
  }

  choose(position) {
    const item = this.items[position];
    if (!item) return;
    this.select(item, true);
    this.chosen(item);
  }
}

function makeRow() {
  const parts = ["title", "time", "text", "tag"].map((name) => make("span", { class: name, dir: name === "title" || name === "text" ? "auto" : null }));
  return make("div", { role: "option", class: "item" }, ...parts);
}

function fill(row, item, position, count, selected) {
  const id = `row-${item.id}`;
  row.style.transform = `translateY(${position * HEIGHT}px)`;
  row.setAttribute("aria-posinset", position + 1);
  row.setAttribute("aria-setsize", count);
  row.setAttribute("aria-selected", String(Boolean(selected)));
  if (row.id === id && row.item === item) return;
  row.id = id;
  row.item = item;
  const [title, time, text, tag] = row.children;
  setText(title, subject(item));
  setText(time, clock(item.at));
  setText(text, `${item.push_type || "no type"} · ${shorten(item.token || item.headers["apns-channel-id"] || "")}`);
  setText(tag, item.outcome || `${item.answer.status}`);
  tag.className = `tag ${kindOf(item)}`;
  row.dataset.worst = worst(item);
}
