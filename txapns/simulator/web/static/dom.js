// Elements without HTML text: the page's policy forbids that, and nothing that came could then be taken for markup.

export const place = (id) => document.getElementById(id);

// Make an element: its properties, data, ARIA and other attributes by name; children are elements or text.
export function make(name, given = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") element.textContent = value;
    else if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// Touch text only where it differs, so that a selection survives an update.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Fill a list of terms; a value is text or an element.
export function setFacts(list, facts) {
  const parts = facts.flatMap(([term, value]) => [
    make("dt", { text: term }),
    make("dd", typeof value === "string" ? { text: value, dir: "auto" } : {}, typeof value === "string" ? "" : value),
  ]);
  list.replaceChildren(...parts);
}

// Make one of a group of buttons the pressed one.
export function press(name, value) {
  for (const button of document.querySelectorAll(`[data-${name}][aria-pressed]`)) {
    button.setAttribute("aria-pressed", String(button.dataset[name] === value));
  }
}

let timer = 0;

// Say something for a moment, also to screen readers.
export function tell(text) {
  const toast = place("toast");
  toast.textContent = text;
  toast.classList.add("seen");
  clearTimeout(timer);
  timer = setTimeout(() => toast.classList.remove("seen"), 4000);
}

export function clock(seconds) {
  const date = new Date(seconds * 1000);
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

// Tell a time span in its two largest units.
export function span(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(left / 86400), Math.floor(left / 3600) % 24, Math.floor(left / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${left % 60} s` : `${left} s`;
}

export const shorten = (token) => (token.length > 16 ? `${token.slice(0, 8)}…${token.slice(-4)}` : token);
