// The controls of a device: what its user may do to it between two pushes, and what the app on it is.
import * as api from "./api.js";
import { box, input, select } from "./controls.js";
import { make, place, setText, tell } from "./dom.js";

const TOKEN = /^([0-9a-f]{2}){32,100}$/;
const UNKNOWN = ["", "not known"];
const KINDS = ["alert", "complication", "controls", "fileprovider", "liveactivity", "location", "mdm", "push-to-start", "pushtotalk", "voip", "wallet", "widgets"];
const CAPABILITIES = ["background", "calls", "critical alerts", "extension", "filtering", "frequent updates", "live activities", "location", "time sensitive"];

// How a value of the API becomes that of a control, and the other way round.
const plain = { show: (value) => value ?? "", read: (text) => (text === "" ? null : text) };
const words = { show: (value) => (value ?? []).join(", "), read: (text) => (text.trim() ? text.split(",").map((word) => word.trim()) : null) };
const version = { show: (value) => value.join("."), read: (text) => text.split(".").map(numeral) };
const count = { show: String, read: numeral };

function numeral(text) {
  return /^\d+$/.test(text.trim()) ? Number(text) : text;
}

// Choices, texts, switches and sets: where each stands in what the API says of a device, and how it is called.
const FIRST = [
  ["choice", "state", "Device", ["online", "offline", "removed"]],
  ["choice", "permission", "Permission", ["authorized", "provisional", "denied", "not asked"]],
  ["choice", "previews", "Previews", ["always", "when unlocked", "never"]],
  ["switch", "focus", "Focus is on"],
  ["switch", "summary", "In the scheduled summary"],
  ["switch", "muted", "Silent mode"],
  ["switch", "locked", "Screen is locked"],
  ["switch", "foreground", "App is open"],
  ["switch", "force_quit", "App was force-quit"],
  ["switch", "low_power", "Low Power Mode"],
];
const MORE = [
  ["Settings", [
    ["switch", "enabled", "Notifications allowed"],
    ["switch", "banners", "Banners"],
    ["switch", "lock_screen", "On the lock screen"],
    ["switch", "notification_center", "In Notification Center"],
    ["switch", "sounds", "Sounds"],
    ["switch", "badges", "Badges"],
    ["switch", "grouped", "Grouped by thread"],
    ["switch", "time_sensitive", "Time Sensitive allowed"],
    ["switch", "critical", "Critical Alerts allowed"],
    ["switch", "live_activities", "Live Activities allowed"],
    ["switch", "frequent_updates", "Frequent updates of them"],
    ["switch", "background_refresh", "Background App Refresh"],
    ["switch", "location_always", "Location always"],
    ["text", "focus_criteria", "Focus lets through", words, "any"],
  ]],
  ["Device and token", [
    ["choice", "platform", "System", ["iOS", "iPadOS", "macOS", "tvOS", "visionOS", "watchOS"]],
    ["text", "version", "Version", version, ""],
    ["choice", "environment", "Environment", [["", "either"], "production", "sandbox"]],
    ["choice", "token_kind", "Token is for", [UNKNOWN, ...KINDS]],
    ["text", "topic", "Topic of the token", { ...plain, read: (text) => text }, "not known"],
    ["text", "badge", "Badge now", count, ""],
    ["switch", "token_outdated", "App has a newer token"],
    ["switch", "keeps_all", "Several pushes wait while offline"],
    ["switch", "joined", "In a Push to Talk channel"],
  ]],
  ["App", [
    ["set", "app.capabilities", "Capabilities", CAPABILITIES],
    ["set", "app.foreground", "Shown while it is open", ["banner", "list", "sound", "badge"]],
    ["switch", "app.has_delegate", "Has a delegate for notifications"],
    ["text", "app.categories", "Categories", words, "not known"],
  ]],
];
const ALL = [...FIRST, ...MORE.flatMap(([, fields]) => fields)];

let token = "";
const control = (name) => place(`device-${name.replace(".", "-")}`);

// Show the controls of the device with a token; what is no token hides them.
export async function showDevice(wanted) {
  const known = TOKEN.test(wanted) ? wanted : "";
  if (known === token) return;
  token = known;
  place("device").hidden = !token;
  if (!token) return;
  setText(place("token"), token);
  await load();
}

async function load() {
  const asked = token;
  if (!asked) return;
  try {
    const device = await api.getDevice(asked);
    if (asked === token) fill(device);
  } catch (error) {
    tell(String(error.message));
  }
}

function fill(device) {
  const now = { ...device.settings, ...device };
  for (const [kind, name, , form] of ALL) {
    const value = name.startsWith("app.") ? device.app[name.slice(4)] : now[name];
    if (kind === "switch") control(name).checked = Boolean(value);
    else if (kind === "choice") control(name).value = value ?? "";
    else if (kind === "text") control(name).value = form.show(value);
    else for (const each of control(name).querySelectorAll("input")) each.checked = (value ?? []).includes(each.value);
  }
}

async function change(name, value, label) {
  const changes = name.startsWith("app.") ? { app: { [name.slice(4)]: value } } : { [name]: value };
  try {
    fill(await api.setDevice(token, changes));
    tell(`${label}: ${value === true ? "on" : value === false ? "off" : value === null ? "any" : value}`);
  } catch (error) {
    tell(String(error.message));
    await load();
  }
}

function controlOf([kind, name, label, given, hint]) {
  const id = `device-${name.replace(".", "-")}`;
  if (kind === "switch") return box(id, label, (check) => change(name, check.checked, label));
  if (kind === "choice") return select(id, label, given, (choice) => change(name, choice.value || null, label), "choice");
  if (kind === "text") return input(id, label, { look: "choice", hint }, (line) => change(name, given.read(line.value), label));
  const boxes = given.map((word) => {
    const check = make("input", { type: "checkbox", value: word, onchange: () => change(name, chosen(id), label) });
    return make("label", {}, check, ` ${word}`);
  });
  return make("fieldset", { id, class: "switches" }, make("legend", { text: label }), ...boxes);
}

function chosen(id) {
  return [...place(id).querySelectorAll("input:checked")].map((each) => each.value);
}

export function prepareDevice() {
  const groups = MORE.map(([title, fields]) =>
    make("details", {}, make("summary", { text: title }), make("div", { class: "switches" }, ...fields.map(controlOf))),
  );
  place("switches").append(make("div", { class: "switches" }, ...FIRST.map(controlOf)), ...groups);
  place("switches").addEventListener("submit", (event) => event.preventDefault());
}
