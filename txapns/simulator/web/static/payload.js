// The payload as it came: as octets, and formatted without parsing, so that numbers, escapes and repeated keys stay.
import { make } from "./dom.js";
import { LIMITS } from "./facts.js";

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]|[^\s{}[\],:"]+|\S/gs;
const MOST = 16384; // octets that are shown

export function octetsOf(item) {
  const text = atob(item.payload_base64 || "");
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

export const textOf = (item) => new TextDecoder().decode(octetsOf(item));

function classOf(token, next) {
  if (token.startsWith('"')) return next === ":" ? "key" : "string";
  if (/^[-\d]/.test(token)) return "number";
  return /^(true|false|null)$/.test(token) ? "literal" : "";
}

// Return the text with its pieces in colour and one member a line.
export function formatted(text) {
  const tokens = text.slice(0, MOST).match(TOKEN) || [];
  const parts = [];
  let depth = 0;
  const line = () => parts.push("\n" + "  ".repeat(Math.max(0, depth)));
  tokens.forEach((token, n) => {
    const [before, next] = [tokens[n - 1], tokens[n + 1]];
    if ("}]".includes(token)) {
      depth -= 1;
      if (!"{[".includes(before)) line();
    } else if (before && "{[".includes(before)) line();
    const kind = classOf(token, next);
    parts.push(kind ? make("span", { class: kind, text: token }) : token);
    if ("{[".includes(token)) depth += 1;
    else if (token === ",") line();
    else if (token === ":") parts.push(" ");
  });
  if (text.length > MOST) parts.push("\n…");
  return parts;
}

// Return the octets as hexadecimal and as ASCII, sixteen a line.
export function octets(bytes) {
  const lines = [];
  for (let n = 0; n < Math.min(bytes.length, MOST); n += 16) {
    const row = [...bytes.subarray(n, n + 16)];
    const hex = row.map((octet) => octet.toString(16).padStart(2, "0")).join(" ");
    const ascii = row.map((octet) => (octet > 31 && octet < 127 ? String.fromCharCode(octet) : ".")).join("");
    lines.push(`${n.toString(16).padStart(4, "0")}  ${hex.padEnd(47)}  ${ascii}`);
  }
  return lines.join("\n");
}

// The longest payload of a push type, or of a broadcast.
export const limitOf = (type) => LIMITS[type] ?? LIMITS[""];
