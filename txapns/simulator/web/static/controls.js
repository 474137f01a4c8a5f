// Labelled controls, as the compose box, the device and the planned answers have them.
import { make } from "./dom.js";

// Make a choice of words, or of pairs of a value and a text; `changed` is called with the element.
export function select(id, label, words, changed, look = "") {
  const options = words.map((word) => {
    const [value, text] = Array.isArray(word) ? word : [word, word || "not given"];
    return make("option", { value, text });
  });
  const choice = make("select", { id, onchange: () => changed(choice) }, ...options);
  return make("label", { class: look }, label, choice);
}

// Make a line of text; a number has a keyboard of digits where there is one on the screen.
export function input(id, label, { number = false, look = "", hint = null, event = "change" } = {}, changed = () => {}) {
  const line = make("input", { id, type: "text", inputmode: number ? "decimal" : null, placeholder: hint, autocomplete: "off", spellcheck: "false", dir: number ? null : "auto" });
  line.addEventListener(event, () => changed(line));
  return make("label", { class: look }, label, line);
}

export function box(id, label, changed = () => {}, look = "") {
  const check = make("input", { id, type: "checkbox", onchange: () => changed(check) });
  return make("label", { class: look }, check, ` ${label}`);
}
