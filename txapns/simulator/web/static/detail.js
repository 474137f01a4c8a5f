// The detail of a notification: the verdict first, then everything it is made of.
import { tell, clock, make, place, press, setFacts, setText, span } from "./dom.js";
import { WAYS } from "./copying.js";
import { formatted, limitOf, octets, octetsOf, textOf } from "./payload.js";
import { answer, capital, deed, isRefused, kindOf, rank, subject } from "./words.js";

let shown = null;
let form = "text";

export function showDetail(item) {
  shown = item;
  place("nothing").hidden = Boolean(item);
  place("shown").hidden = !item;
  if (!item) return;
  setText(place("subject"), subject(item));
  const day = new Date(item.at * 1000).toLocaleDateString("en", { day: "numeric", month: "short" });
  setText(place("meta"), `Number ${item.id} · ${day}, ${clock(item.at)} · ${item.push_type || "no push type"} · ${item.topic || "no topic"}`);
  showVerdict(item);
  place("findings").replaceChildren(...findings(item.findings || []));
  showPayload();
  const fields = Object.entries(item.headers).filter(([name]) => name !== "authorization");
  setFacts(place("headers"), fields);
  setFacts(place("bearer"), bearer(item.provider_token));
  setFacts(place("way"), way(item));
}

function showVerdict(item) {
  const lines = [
    ["Apple", answer(item), isRefused(item) ? "bad" : "ok"],
    ["Phone", deed(item), kindOf(item)],
    ["Why", item.why || "Not known", ""],
  ];
  const parts = lines.flatMap(([term, text, kind]) => [make("dt", { text: term }), make("dd", { text, class: kind, dir: "auto" })]);
  place("verdict").replaceChildren(...parts);
}

// Make a list of findings, the worst first; the same stands in the compose box.
export function findings(found) {
  if (!found.length) return [];
  const sorted = [...found].sort((one, other) => rank(other.severity) - rank(one.severity));
  const items = sorted.map((finding) => {
    const grade = { documented: "", unknown: "unknown, see: " }[finding.grade] ?? `${finding.grade}: `;
    return make(
      "li",
      { class: finding.severity },
      make("span", { class: "tag " + { error: "bad", warning: "warn", hint: "plain" }[finding.severity], text: capital(finding.severity) }),
      make(
        "div",
        {},
        make("p", { text: finding.message, dir: "auto" }),
        make("p", { class: "source" }, make("code", { class: "code", text: finding.code }), finding.path ? " at " : "", finding.path ? make("code", { text: finding.path }) : "", ` · ${grade}${finding.source}`),
      ),
    );
  });
  return [make("ul", { class: "findings", "aria-label": "Findings" }, ...items)];
}

function showPayload() {
  const bytes = octetsOf(shown);
  const limit = limitOf(shown.protocol === "broadcast" ? "broadcast" : shown.push_type);
  const meter = place("size");
  Object.assign(meter, { max: limit, high: limit, low: limit * 0.8, value: Math.min(bytes.length, limit) });
  meter.classList.toggle("over", bytes.length > limit);
  const share = Math.round((bytes.length / limit) * 100);
  setText(place("size-text"), `${bytes.length.toLocaleString("en")} of ${limit.toLocaleString("en")} bytes, ${share} %`);
  place("payload").replaceChildren(...(form === "text" ? formatted(textOf(shown)) : [octets(bytes)]));
  press("form", form);
}

function bearer(token) {
  if (!token) return [["None", "the connection has a certificate, or the token cannot be read"]];
  const age = token.age > 3600 ? `${span(token.age)}: older than the hour that Apple allows` : span(token.age);
  return [["Key ID", token.key_id ?? "none"], ["Team ID", token.team_id ?? "none"], ["Age", age], ["Signature", "not kept"]];
}

function way(item) {
  const client = item.client || {};
  const certificate = client.certificate && (client.certificate.topics || []).join(", ");
  const facts = [
    ["Protocol", { http2: "HTTP/2", binary: "binary", broadcast: "HTTP/2, broadcast" }[item.protocol] ?? item.protocol],
    ["Connection", item.connection ? `number ${item.connection}` : "by hand"],
    ["Client", client.user_agent],
    ["Address", client.address],
    ["TLS", client.tls],
    ["Certificate", certificate],
  ];
  return facts.filter(([, value]) => value);
}

async function copy(way) {
  try {
    await navigator.clipboard.writeText(WAYS[way](shown));
    tell(`Copied as ${way === "apns" ? ".apns" : way}`);
  } catch {
    tell("The browser does not allow copying");
  }
}

export function prepareDetail(again) {
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button.dataset.copy));
  for (const button of document.querySelectorAll("[data-form]")) {
    button.addEventListener("click", () => {
      form = button.dataset.form;
      showPayload();
    });
  }
  place("again").addEventListener("click", () => again(shown));
}
