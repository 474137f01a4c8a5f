// The switches of a device: what its user may do to it between two pushes.
import * as api from "./api.js";
import { make, place, setText, tell } from "./dom.js";

const CHOICES = [
  ["state", "Device", ["online", "offline", "removed"]],
  ["permission", "Permission", ["authorized", "provisional", "denied", "not asked"]],
  ["previews", "Previews", ["always", "when unlocked", "never"]],
];
const SWITCHES = [
  ["focus", "Focus is on"],
  ["summary", "In the scheduled summary"],
  ["muted", "Silent mode"],
  ["foreground", "App is open"],
  ["force_quit", "App was force-quit"],
  ["banners", "Banners"],
  ["sounds", "Sounds"],
  ["badges", "Badges"],
  ["time_sensitive", "Time Sensitive allowed"],
  ["live_activities", "Live Activities allowed"],
  ["low_power", "Low Power Mode"],
];

let token = "";

// Show the switches of the device with a token; empty hides them.
export async function showDevice(wanted) {
  if (wanted === token) return;
  token = wanted;
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

const values = (device) => ({ ...device, ...device.settings });

function fill(device) {
  const now = values(device);
  for (const [name] of CHOICES) place(`device-${name}`).value = now[name];
  for (const [name] of SWITCHES) place(`device-${name}`).checked = Boolean(now[name]);
}

async function change(name, value, label) {
  try {
    fill(await api.setDevice(token, { [name]: value }));
    tell(`${label}: ${value === true ? "on" : value === false ? "off" : value}`);
  } catch (error) {
    tell(String(error.message));
    await load();
  }
}

export function prepareDevice() {
  const choices = CHOICES.map(([name, label, words]) => {
    const options = words.map((word) => make("option", { value: word, text: word }));
    const choice = make("select", { id: `device-${name}`, onchange: () => change(name, choice.value, label) }, ...options);
    return make("label", { class: "choice" }, label, choice);
  });
  const switches = SWITCHES.map(([name, label]) => {
    const box = make("input", { id: `device-${name}`, type: "checkbox", onchange: () => change(name, box.checked, label) });
    return make("label", {}, box, ` ${label}`);
  });
  place("switches").append(...choices, ...switches);
  place("switches").addEventListener("submit", (event) => event.preventDefault());
}
