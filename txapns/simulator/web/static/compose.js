// The compose box: a form and the JSON that it stands for, side by side. Each follows the other.
import * as api from "./api.js";
import { box, input, select } from "./controls.js";
import { make, place, setText, tell } from "./dom.js";
import { findings } from "./detail.js";
import { SUFFIXES, TYPES } from "./facts.js";
import { limitOf, textOf } from "./payload.js";
import { bundleOf } from "./words.js";

const LEVELS = ["", "passive", "active", "time-sensitive", "critical"];
// Where each field stands in the payload, and how its text becomes a value.
const FIELDS = [
  ["title", "Title", ["alert", "title"], "text"],
  ["subtitle", "Subtitle", ["alert", "subtitle"], "text"],
  ["body", "Body", ["alert", "body"], "long"],
  ["sound", "Sound", ["sound"], "text"],
  ["badge", "Badge", ["badge"], "number"],
  ["thread", "Thread", ["thread-id"], "text"],
  ["category", "Category", ["category"], "text"],
  ["level", "Interruption level", ["interruption-level"], LEVELS],
];
const HEADERS = [
  ["priority", "Priority", "apns-priority", ["", "10", "5", "1"]],
  ["expiration", "Expiration", "apns-expiration", "text"],
  ["collapse", "Collapse ID", "apns-collapse-id", "text"],
];
const now = () => Math.floor(Date.now() / 1000);
const SAMPLES = {
  alert: () => ({ aps: { alert: { title: "Dinner", body: "The table is set." }, sound: "default" } }),
  background: () => ({ aps: { "content-available": 1 } }),
  liveactivity: () => ({ aps: { timestamp: now(), event: "start", "attributes-type": "GameAttributes", attributes: { home: "Ajax", away: "Feyenoord" }, "content-state": { score: "0:0" }, "stale-date": now() + 600, alert: { title: "Kick-off", body: "Ajax against Feyenoord" } } }),
  voip: () => ({ aps: {}, caller: "Ann" }),
  widgets: () => ({ aps: { "content-changed": true } }),
};

let timer = 0;
let turn = 0;
let topic = ""; // of the app
const field = (name) => place(`compose-${name}`);

// Open the box; with a notification, filled with it.
export function openCompose(item) {
  if (item) fillFrom(item);
  else if (!field("json").value) useSample("alert");
  place("compose").showModal();
  (item ? field("json") : field("title")).focus();
  check();
}

function fillFrom(item) {
  field("token").value = item.token;
  field("topic").value = item.headers["apns-topic"] ?? item.topic;
  field("type").value = TYPES.includes(item.push_type) ? item.push_type : "";
  for (const [name, , header] of HEADERS) field(name).value = item.headers[header] ?? "";
  field("json").value = item.payload ? JSON.stringify(item.payload, null, 2) : textOf(item);
  readJSON();
}

function useSample(type) {
  field("topic").value = topic + (SUFFIXES[type] ?? "");
  field("priority").value = type === "background" ? "5" : "10";
  field("json").value = JSON.stringify((SAMPLES[type] ?? (() => ({ aps: {} })))(), null, 2);
  readJSON();
}

// Take the app of this simulator.
export function setTopic(known) {
  topic = known;
}

// Remember the app and the device of what came last, so that one can answer to it.
export function suggest(item) {
  if (item.topic) topic = bundleOf(item.topic);
  if (!field("token").value && item.token) field("token").value = item.token;
}

function payload() {
  try {
    const value = JSON.parse(field("json").value);
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

// Put what the JSON says into the form.
function readJSON() {
  const content = payload();
  const problem = content ? "" : "Not a JSON object";
  setText(field("problem"), problem);
  field("json").setAttribute("aria-invalid", String(Boolean(problem)));
  if (!content) return;
  const aps = content.aps && typeof content.aps === "object" ? content.aps : {};
  for (const [name, , path] of FIELDS) {
    let value = path.reduce((inside, key) => (inside && typeof inside === "object" ? inside[key] : undefined), aps);
    if (name === "body" && typeof aps.alert === "string") value = aps.alert;
    field(name).value = value === undefined || typeof value === "object" ? "" : String(value);
  }
  field("available").checked = aps["content-available"] === 1;
  field("mutable").checked = aps["mutable-content"] === 1;
}

// Put a field of the form into the JSON.
function writeJSON(path, value) {
  const content = payload() ?? {};
  if (!content.aps || typeof content.aps !== "object") content.aps = {};
  let inside = content.aps;
  for (const key of path.slice(0, -1)) {
    if (typeof inside[key] === "string") inside[key] = { body: inside[key] };
    if (!inside[key] || typeof inside[key] !== "object") inside[key] = {};
    inside = inside[key];
  }
  if (value === undefined) delete inside[path.at(-1)];
  else inside[path.at(-1)] = value;
  if (path.length > 1 && !Object.keys(inside).length) delete content.aps[path[0]];
  field("json").value = JSON.stringify(content, null, 2);
  readProblem();
  later();
}

function readProblem() {
  setText(field("problem"), "");
  field("json").setAttribute("aria-invalid", "false");
}

function valueOf(text, kind) {
  if (text === "") return undefined;
  return kind === "number" && text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

function pushed() {
  const headers = {};
  const given = [["apns-push-type", "type"], ["apns-topic", "topic"], ...HEADERS.map(([name, , header]) => [header, name])];
  for (const [header, name] of given) if (field(name).value !== "") headers[header] = field(name).value;
  return { token: field("token").value.trim(), headers, payload: payload() ?? field("json").value };
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(check, 150);
}

async function check() {
  turn += 1;
  const mine = turn;
  const content = payload();
  const size = new TextEncoder().encode(content ? JSON.stringify(content) : field("json").value).length;
  const limit = limitOf(field("type").value);
  setText(field("size"), `${size.toLocaleString("en")} of ${limit.toLocaleString("en")} bytes`);
  field("size").className = size > limit ? "bad" : "muted";
  try {
    const found = await api.lint(pushed());
    if (mine !== turn) return;
    const nothing = make("p", { class: "muted", text: "No findings." });
    field("findings").replaceChildren(...(found.length ? findings(found) : [nothing]));
  } catch (error) {
    if (mine === turn) field("findings").replaceChildren(make("p", { class: "muted", text: error.message }));
  }
}

async function send(event) {
  event.preventDefault();
  try {
    await api.send(pushed());
    tell("Sent");
  } catch (error) {
    tell(error.message);
    setText(field("problem"), error.message);
  }
}

function control(name, label, kind, changed) {
  const id = `compose-${name}`;
  const look = kind === "long" || name === "token" || name === "topic" ? "wide" : "";
  if (Array.isArray(kind)) return select(id, label, kind, changed, look);
  if (kind !== "long") return input(id, label, { number: kind === "number", look, event: "input" }, changed);
  const area = make("textarea", { id, rows: 2, dir: "auto", oninput: () => changed(area) });
  return make("label", { class: look }, label, area);
}

function flag(name, label, key) {
  return box(`compose-${name}`, label, (check) => writeJSON([key], check.checked ? 1 : undefined), "flag");
}

export function prepareCompose() {
  const type = control("type", "Push type", ["", ...TYPES], (choice) => {
    useSample(choice.value);
    later();
  });
  const fields = [
    control("token", "Device token", "token", later),
    control("topic", "Topic", "topic", later),
    type,
    ...HEADERS.map(([name, label, , kind]) => control(name, label, kind, later)),
    ...FIELDS.map(([name, label, path, kind]) => control(name, label, kind, (line) => writeJSON(path, valueOf(line.value, kind)))),
    make("div", {}, flag("available", "content-available", "content-available"), flag("mutable", "mutable-content", "mutable-content")),
  ];
  const json = make("textarea", { id: "compose-json", spellcheck: "false", "aria-label": "Payload as JSON", "aria-describedby": "compose-problem" });
  json.addEventListener("input", () => {
    readJSON();
    later();
  });
  const close = () => place("compose").close();
  const head = make("div", { class: "row" }, make("h2", { id: "compose-heading", text: "Compose" }), make("button", { type: "button", text: "Close", onclick: close }));
  const title = make("div", { class: "row" }, make("h3", { text: "Payload" }), make("p", { id: "compose-size", class: "muted" }));
  const problem = make("p", { id: "compose-problem", class: "problem", role: "alert" });
  const found = make("div", { id: "compose-findings", class: "box", role: "group", "aria-label": "Findings", "aria-live": "polite" });
  const submit = make("button", { type: "submit", class: "primary", text: "Send" });
  const sides = make("div", { class: "sides" }, make("div", { class: "fields" }, ...fields), make("div", { class: "raw" }, title, json, problem, found));
  const form = make("form", {}, head, sides, make("p", { class: "buttons" }, submit));
  form.addEventListener("submit", send);
  place("compose").append(form);
  field("token").value = "";
  field("type").value = "alert";
}
