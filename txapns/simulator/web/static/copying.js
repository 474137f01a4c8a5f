// A notification as something to paste elsewhere.
import { textOf } from "./payload.js";

const SKIPPED = /^(:|authorization$|content-length$|user-agent$|accept|host$|te$)/;
const FIELDS = { "apns-push-type": "push_type", "apns-topic": "topic", "apns-collapse-id": "collapse_id", "apns-id": "apns_id" };
const NUMBERS = { "apns-priority": "priority", "apns-expiration": "expiration" };

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function fieldsOf(item) {
  return Object.entries(item.headers).filter(([name]) => !SKIPPED.test(name));
}

function curl(item) {
  const lines = ["curl --http2 --header \"authorization: bearer $PROVIDER_TOKEN\""];
  for (const [name, value] of fieldsOf(item)) lines.push(`  --header ${shell(`${name}: ${value}`)}`);
  lines.push(`  --data-binary ${shell(textOf(item))}`);
  lines.push(`  https://api.sandbox.push.apple.com/3/device/${item.token}`);
  return lines.join(" \\\n");
}

function txapns(item) {
  const keywords = [`    payload=${pythonText(textOf(item))},`];
  for (const [name, value] of fieldsOf(item)) {
    if (name in FIELDS) keywords.push(`    ${FIELDS[name]}=${pythonText(value)},`);
    else if (name in NUMBERS && /^\d+$/.test(value)) keywords.push(`    ${NUMBERS[name]}=${Number(value)},`);
  }
  const send = `batch = await client.send(notification, [${pythonText(item.token)}])`;
  return ["from txapns import Notification", "", "notification = Notification(", ...keywords, ")", send, ""].join("\n");
}

// What JSON escapes in text, Python reads as the same.
const pythonText = (text) => JSON.stringify(text);

function apns(item) {
  const content = { "Simulator Target Bundle": item.topic, ...item.payload };
  return JSON.stringify(content, null, 2) + "\n";
}

export const WAYS = { curl, txapns, apns };
