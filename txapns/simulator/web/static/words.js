// What the page says of a notification. It decides nothing: it puts into words what the simulator has found.
import { SUFFIXES } from "./facts.js";

const RANKS = ["", "hint", "warning", "error"];
const QUIET = ["nothing", "discarded", "activity ignored", "app ended", "stored"];

// Return the bundle ID in a topic.
export function bundleOf(topic) {
  const suffix = Object.values(SUFFIXES).find((each) => topic.endsWith(each));
  return suffix ? topic.slice(0, -suffix.length) : topic;
}

// Return the first line of a notification: what is seen of it, or else what it is.
export function subject(item) {
  const { title, body } = item.presentation || {};
  if (title || body) return title || body;
  const alert = item.payload && item.payload.aps && item.payload.aps.alert;
  if (typeof alert === "string" && alert) return alert;
  const text = alert && (alert.title || alert.body || alert["title-loc-key"] || alert["loc-key"]);
  if (typeof text === "string" && text) return text;
  const activity = item.payload && item.payload.aps && item.payload.aps.event;
  if (item.push_type === "liveactivity") return `Live Activity: ${activity || "no event"}`;
  return { background: "Background push", voip: "Call", widgets: "Widgets", controls: "Control" }[item.push_type]
    || (item.payload ? "No text" : "Not a JSON object");
}

// Return the severity of the worst finding; empty without any.
export function worst(item) {
  return RANKS[Math.max(0, ...(item.findings || []).map((finding) => RANKS.indexOf(finding.severity)))];
}

export const rank = (severity) => RANKS.indexOf(severity);

// Return the colour of an outcome, by the name of its class.
export function kindOf(item) {
  if (isRefused(item)) return "bad";
  return QUIET.includes(item.outcome) ? "warn" : item.outcome === "banner" ? "ok" : "plain";
}

export const isRefused = (item) => item.outcome === "refused" || item.answer.status >= 400 || Boolean(item.answer.reason);

export function answer(item) {
  const { status, reason } = item.answer;
  return reason ? `${status} ${reason}` : `${status || "No error"}${status === 200 ? " accepted" : ""}`;
}

// Return what the phone does, in a line: the outcome, and what goes with it.
export function deed(item) {
  const shown = item.presentation;
  const parts = [item.outcome ? capital(item.outcome) : "Unknown"];
  if (shown && !isRefused(item)) {
    if (shown.sound) parts.push(`sound ${shown.sound}`);
    if (shown.badge !== null && shown.badge !== undefined) parts.push(shown.badge ? `badge ${shown.badge}` : "badge removed");
    if (shown.level && shown.level !== "active") parts.push(shown.level);
    if (shown.replaces) parts.push("replaces an earlier one");
  }
  return parts.join(", ");
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Return all text of a notification, in lower case, for the search.
export function haystack(item) {
  if (item.haystack === undefined) {
    const { title, subtitle, body } = item.presentation || {};
    const codes = (item.findings || []).map((finding) => finding.code);
    const parts = [title, subtitle, body, item.token, item.topic, item.push_type, item.outcome, item.why, ...codes,
      item.answer.reason, ...Object.values(item.headers), JSON.stringify(item.payload)];
    item.haystack = parts.filter(Boolean).join("\n").toLowerCase();
  }
  return item.haystack;
}
