// Localizable.strings, as Xcode writes them: "key" = "text"; with comments. Or a JSON object.

const PAIR = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|("(?:[^"\\]|\\.)*"|[\w.-]+)\s*=\s*"((?:[^"\\]|\\[\s\S])*)"\s*;/g;
const ESCAPES = { n: "\n", r: "\r", t: "\t" };

const plain = (text) => text.replace(/\\(?:U([0-9a-fA-F]{4})|([\s\S]))/g, (_, code, other) => (code ? String.fromCharCode(parseInt(code, 16)) : (ESCAPES[other] ?? other)));

export function readStrings(text) {
  if (text.trimStart().startsWith("{")) return JSON.parse(text);
  const strings = {};
  for (const [, key, value] of text.matchAll(PAIR)) {
    if (key !== undefined) strings[plain(key.replace(/^"|"$/g, ""))] = plain(value);
  }
  if (!Object.keys(strings).length) throw new Error("No strings were found in the file");
  return strings;
}
