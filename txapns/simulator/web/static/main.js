// The inbox: takes what the simulator received, and has the list, the detail and the phone show it.
import * as api from "./api.js";
import { openCompose, prepareCompose, setTopic, suggest } from "./compose.js";
import { prepareDetail, showDetail } from "./detail.js";
import { prepareDevice, showDevice } from "./device.js";
import { make, place, press, setFacts, setText, tell } from "./dom.js";
import { List } from "./list.js";
import { openPlans, plansShown, preparePlans, showPlans } from "./plans.js";
import { setScreen, showPhone, tick } from "./phone.js";
import { haystack, rank, worst } from "./words.js";

const KEPT = 2000; // as many as the simulator keeps
const CALM = 250; // ms between two changes of the detail while much comes

let items = []; // what came, the oldest first
let seen = []; // those of them that the filter lets through
let coming = []; // what came since the last frame
let selected = null;
let drawn = 0; // when the detail was drawn
let waiting = 0;

const list = new List(choose, open);
const filter = { search: place("search"), type: place("type"), outcome: place("outcome"), grade: place("grade") };

// What comes.

function got(entries) {
  if (!coming.length) requestAnimationFrame(take);
  coming.push(...entries);
}

// Take what came since the last frame, all at once. A page that is not in sight has no frames; then it is kept short.
function take() {
  const last = items.length ? items.at(-1).id : 0;
  const fresh = coming.filter((item) => item.id > last).slice(-KEPT);
  coming = [];
  if (!fresh.length) return;
  items = [...items, ...fresh].slice(-KEPT);
  const added = fresh.filter(passes);
  const oldest = items[0].id;
  seen = [...seen, ...added].filter((item) => item.id >= oldest);
  for (const item of fresh) offer(item);
  suggest(fresh.at(-1));
  list.set(seen, added.length);
  count();
  if (plansShown()) showPlans();
  if (place("follow").checked && added.length) calmly(() => select(seen.at(-1)));
}

// Draw the detail of the latest at once, and if more comes soon, that after a while.
function calmly(draw) {
  clearTimeout(waiting);
  waiting = setTimeout(draw, Math.max(0, drawn + CALM - performance.now()));
}

// Take what has another verdict now, as its device has come online.
function changed(entries) {
  const latest = new Map(entries.map((item) => [item.id, item]));
  items = items.map((item) => latest.get(item.id) ?? item);
  entries.forEach(offer);
  apply();
  if (selected && latest.has(selected.id)) select(latest.get(selected.id));
}

function cleared(id) {
  items = items.filter((item) => item.id > id);
  apply();
  if (selected && selected.id <= id) select(null);
}

// The filter.

function passes(item) {
  const text = filter.search.value.trim().toLowerCase();
  return (
    (!filter.type.value || (item.push_type || "no type") === filter.type.value) &&
    (!filter.outcome.value || item.outcome === filter.outcome.value) &&
    (!filter.grade.value || rank(worst(item)) >= rank(filter.grade.value)) &&
    (!text || text.split(/\s+/).every((word) => haystack(item).includes(word)))
  );
}

function apply() {
  seen = items.filter(passes);
  list.set(seen, 0);
  count();
}

function count() {
  setText(place("count"), seen.length === items.length ? `${items.length.toLocaleString("en")} received` : `${seen.length.toLocaleString("en")} of ${items.length.toLocaleString("en")}`);
  place("empty").hidden = seen.length > 0;
  place("rows").hidden = !seen.length;
  const none = items.length ? "Nothing fits the filter" : "Nothing has come yet";
  setText(place("empty").querySelector("strong"), none);
  document.title = items.length ? `(${items.length}) Inbox – txapns` : "Inbox – txapns";
}

const offered = new Set();

// Offer what occurs as a choice of the filter.
function offer(item) {
  for (const [name, value] of [["type", item.push_type || "no type"], ["outcome", item.outcome]]) {
    if (!value || offered.has(`${name} ${value}`)) continue;
    offered.add(`${name} ${value}`);
    filter[name].append(make("option", { value, text: value }));
  }
}

// The selection.

function choose(item) {
  place("follow").checked = item === seen.at(-1) && place("follow").checked;
  select(item);
}

function select(item) {
  selected = item;
  drawn = performance.now();
  list.select(item, false);
  showDetail(item);
  showPhone(item, item ? items.filter((each) => each.token === item.token && each.id <= item.id) : []);
  showDevice(item && item.device ? item.token : "");
}

function view(name) {
  document.body.dataset.view = name;
}

function open() {
  view("detail");
  place("detail").focus({ preventScroll: true });
}

function back() {
  view("list");
  place("rows").focus();
}

// The controls.

function prepare() {
  prepareDetail(openCompose);
  prepareDevice();
  prepareCompose();
  preparePlans();
  for (const each of Object.values(filter)) each.addEventListener("input", apply);
  place("filter").addEventListener("submit", (event) => event.preventDefault());
  place("follow").addEventListener("change", () => place("follow").checked && seen.length && select(seen.at(-1)));
  place("back").addEventListener("click", back);
  place("write").addEventListener("click", () => openCompose());
  place("planning").addEventListener("click", () => openPlans(selected?.device ? selected.token : ""));
  place("clear").addEventListener("click", () => api.clear().catch((error) => tell(error.message)));
  place("strings").addEventListener("click", () => place("file").click());
  place("file").addEventListener("change", upload);
  for (const button of document.querySelectorAll("[data-screen][aria-pressed]")) {
    button.addEventListener("click", () => {
      press("screen", button.dataset.screen);
      setScreen(button.dataset.screen);
    });
  }
  for (const name of ["dark", "large"]) toggle(name);
  if (matchMedia("(prefers-color-scheme: dark)").matches) place("dark").click();
  document.addEventListener("keydown", shortcut);
  setInterval(tick, 1000);
}

function toggle(name) {
  place(name).addEventListener("click", () => {
    const on = place("phone").classList.toggle(name);
    place(name).setAttribute("aria-pressed", String(on));
  });
}

function shortcut(event) {
  const typing = event.target.closest("input, textarea, select, dialog[open]");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target === filter.search) back();
  else if (event.key === "Escape" && !typing && document.body.dataset.view === "detail") back();
  else if (event.key === "/" && !typing) {
    event.preventDefault();
    view("list");
    filter.search.focus();
  } else if (event.key === "c" && !typing) {
    event.preventDefault();
    openCompose();
  }
}

async function upload() {
  const [file] = place("file").files;
  if (!file) return;
  try {
    const count = await api.sendStrings(await file.text());
    tell(`${count} strings from ${file.name}; pushes from now on use them`);
  } catch (error) {
    tell(error.message);
  }
  place("file").value = "";
}

// Read everything. After the simulator has started anew, nothing of what it had is left.
async function refresh() {
  const found = await api.getReceived();
  items = found.received;
  items.forEach(offer);
  apply();
  return found.after;
}

// Say what one needs to send to this simulator.
async function describe() {
  const about = await api.getSimulator();
  setTopic(about.topic);
  const { http2, binary } = about.ports;
  setFacts(place("where"), [
    ["HTTP/2", `port ${http2}`],
    ["Binary", `port ${binary}`],
    ["Topic", about.topic],
    ["Key ID", about.key_id],
    ["Team ID", about.team_id],
  ]);
}

async function again() {
  try {
    await describe();
    await refresh();
    const same = (item) => selected && item.id === selected.id && item.at === selected.at;
    select(items.find(same) ?? seen.at(-1) ?? null);
  } catch (error) {
    tell(error.message);
  }
}

async function begin() {
  prepare();
  let after = 0;
  try {
    await describe();
    after = await refresh();
    if (seen.length) {
      suggest(seen.at(-1));
      select(seen.at(-1));
    }
  } catch (error) {
    tell(error.message);
  }
  const link = place("link");
  let lost = false;
  api.listen(after, {
    got,
    changed,
    cleared,
    state: (stands) => {
      if (stands && lost) again();
      lost = !stands;
      setText(link, stands ? "live" : "disconnected; reconnecting");
      link.className = stands ? "ok" : "warn";
    },
  });
}

begin();
