// The phone: what the simulator says is presented, drawn as a lock screen or as a banner above the home screen.
import { clock, make, place, setFacts, span } from "./dom.js";
import { bundleOf, capital, deed, isRefused } from "./words.js";

const MOST = 12; // notifications on the lock screen
const state = { item: null, items: [] };

// Show what a notification did. `items` are those of the same token up to it, the oldest first.
export function showPhone(item, items) {
  Object.assign(state, { item, items });
  draw();
}

export function setScreen(screen) {
  place("phone").dataset.screen = screen;
  draw();
}

function draw() {
  const { item } = state;
  const phone = place("phone");
  const name = appOf(item);
  const inside = phone.dataset.screen === "lock" ? lockScreen(item, name) : homeScreen(item, name);
  phone.replaceChildren(make("div", { class: "island", "aria-hidden": "true" }), inside);
  setFacts(place("effects"), item ? effects(item) : []);
  tick();
}

function appOf(item) {
  const bundle = item ? bundleOf(item.topic) : "";
  return capital(bundle.split(".").pop() || "App");
}

// Return what is on the lock screen once a notification has come: each under the identifier that replaces.
function present(items) {
  const shown = new Map();
  for (const { id, outcome, presentation } of items) {
    if (!presentation || !["banner", "list only"].includes(outcome)) continue;
    const identifier = presentation.identifier || `number ${id}`; // Apple makes one if the sender does not
    shown.delete(identifier);
    shown.set(identifier, presentation);
  }
  return [...shown.values()];
}

// Return the Live Activities as the latest push left each, the latest first.
function running(items) {
  const activities = new Map();
  for (const { presentation } of items) {
    const activity = presentation?.activity;
    if (!activity) continue;
    activities.delete(activity.number);
    activities.set(activity.number, activity);
  }
  return [...activities.values()].filter((activity) => activity.state !== "dismissed").reverse();
}

function lockScreen(item, name) {
  const at = item ? item.at : Date.now() / 1000;
  const date = new Date(at * 1000).toLocaleDateString("en", { weekday: "long", day: "numeric", month: "long" });
  const parts = [make("p", { class: "date", text: date }), make("p", { class: "time", text: clock(at).slice(0, 5) })];
  const cards = [];
  if (item) {
    if (item.outcome === "call screen") cards.push(call(name));
    cards.push(...running(state.items).map((activity) => activityCard(activity, name, at)));
    cards.push(...stacks(item, name));
    if (!isNews(item)) cards.push(quiet(item));
  }
  return make("div", { class: "screen lock" }, ...parts, make("div", { class: "cards" }, ...cards));
}

const isNews = (item) => ["banner", "list only", "call screen"].includes(item.outcome) || (item.presentation?.activity && item.outcome !== "activity ignored");

// Group by thread: the latest notification of each on top, the others beneath it.
function stacks(item, name) {
  const threads = new Map();
  for (const shown of present(state.items).slice(-50)) {
    const stack = threads.get(shown.thread || "") ?? [];
    threads.delete(shown.thread || "");
    threads.set(shown.thread || "", [...stack, shown]);
  }
  return [...threads].reverse().slice(0, MOST).map(([thread, stack]) => {
    const top = stack.at(-1);
    const more = stack.length - 1;
    const classes = ["stack", more > 0 && "many", top === item.presentation && "new"];
    const note = more > 0 ? make("p", { class: "more", text: `${more} more${thread ? ` in ${thread}` : ""}` }) : null;
    return make("div", { class: classes.filter(Boolean).join(" ") }, card(top, name, item.at), note);
  });
}

// Draw one notification.
function card(shown, name, now) {
  const ago = shown.shown_at && now - shown.shown_at >= 60 ? `${span(now - shown.shown_at).split(" ").slice(0, 2).join(" ")} ago` : "now";
  const level = { "time-sensitive": "Time Sensitive", critical: "Critical" }[shown.level];
  const head = make(
    "p",
    { class: "head" },
    make("strong", { class: "shown-title", dir: "auto", text: shown.hidden ? name : shown.title || name }),
    make("span", { class: "ago", text: ago }),
  );
  const texts = [
    level ? make("p", { class: "level", text: level }) : null,
    head,
    !shown.hidden && shown.subtitle ? make("p", { class: "shown-subtitle", dir: "auto", text: shown.subtitle }) : null,
    make("p", { class: "shown-body", dir: "auto", text: shown.hidden ? "Notification" : shown.body }),
    shown.category && shown.buttons ? make("p", { class: "ago", text: `Buttons of ${shown.category}` }) : null,
  ];
  return make("div", { class: "card" }, icon(name), make("div", { class: "texts" }, ...texts));
}

function icon(name, badge) {
  const number = badge ? make("span", { class: "badge", text: badge > 9999 ? "9999+" : String(badge) }) : null;
  return make("span", { class: "icon", "aria-hidden": number ? null : "true" }, name.charAt(0), number);
}

function call(name) {
  return make("div", { class: "card call" }, icon(name), make("div", { class: "texts" }, make("p", { class: "head" }, make("strong", { text: "Incoming call" })), make("p", { text: `The app reports it to CallKit, through ${name}` })));
}

function quiet(item) {
  const text = isRefused(item) ? "Apple refused it: it never reaches the phone." : `${deed(item)}: nothing new on the screen.`;
  return make("p", { class: "quiet", text });
}

// Draw a Live Activity: its values by name, since only the app knows how it arranges them.
function activityCard(activity, name, now) {
  const rows = (values) =>
    Object.entries(values || {}).flatMap(([key, value]) => [
      make("dt", { text: key }),
      make("dd", { dir: "auto", text: typeof value === "object" ? JSON.stringify(value) : String(value) }),
    ]);
  const times = { state: activity.state, stale: activity.stale_at, ends: activity.ends_at, dismissed: activity.dismissed_at };
  const status = make("p", { class: "status" });
  Object.assign(status.dataset, Object.fromEntries(Object.entries(times).filter(([, value]) => value)));
  return make(
    "div",
    { class: `card activity ${activity.state}`, role: "group", "aria-label": `Live Activity ${activity.kind}` },
    make("p", { class: "head" }, icon(name), make("strong", { dir: "auto", text: activity.kind || name }), make("span", { class: "ago", text: span(now - activity.started) })),
    make("dl", {}, ...rows(activity.content), ...rows(activity.attributes)),
    status,
  );
}

// Count down on the Live Activity: when it gets stale, when it ends, when it leaves the lock screen.
export function tick() {
  const now = Date.now() / 1000;
  for (const status of document.querySelectorAll(".activity .status")) {
    const { state: known, stale, ends, dismissed } = status.dataset;
    const isStale = known === "stale" || (known === "active" && stale && now >= Number(stale));
    const word = known === "ended" ? "Ended" : isStale ? "Stale" : "Active";
    const parts = [word];
    if (known === "ended" && dismissed) {
      parts.push(now < Number(dismissed) ? `leaves the lock screen in ${span(dismissed - now)}` : "has left the lock screen");
    } else {
      if (!isStale && stale) parts.push(`stale in ${span(stale - now)}`);
      if (ends) parts.push(now < Number(ends) ? `ends in ${span(ends - now)}` : "its time is over");
    }
    status.textContent = parts.join(" · ");
    status.closest(".activity").classList.toggle("stale", Boolean(isStale));
  }
}

function homeScreen(item, name) {
  const shown = item?.presentation;
  const at = item ? item.at : Date.now() / 1000;
  const banner = item?.outcome === "banner" && shown ? make("div", { class: "banner" }, card(shown, name, at)) : null;
  const badge = item?.device?.badge ?? shown?.badge;
  const others = Array.from({ length: 7 }, () => make("span", { class: "icon blank", "aria-hidden": "true" }));
  const app = make("span", { class: "app" }, icon(name, badge), make("span", { class: "name", text: name }));
  const apps = make("div", { class: "apps" }, app, ...others);
  const note = item && !banner ? quiet(item) : null;
  return make("div", { class: "screen home" }, make("p", { class: "bar", text: clock(at).slice(0, 5) }), banner, apps, note);
}

// Say what the picture cannot.
function effects(item) {
  const shown = item.presentation;
  const waiting = ["Waiting", item.device?.stored ? `${item.device.stored} at Apple` : "nothing"];
  if (!shown || isRefused(item)) return [["Outcome", deed(item)], waiting];
  const badge = { null: "stays as it is", 0: "removed" }[shown.badge ?? null] ?? String(shown.badge);
  return [
    ["Sound", shown.sound ?? "none"],
    ["Badge", badge],
    ["Level", shown.level ?? "none"],
    ["Thread", shown.thread || "the app's"],
    ["Replaces", shown.replaces || "nothing"],
    waiting,
  ];
}
