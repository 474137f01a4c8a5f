// Send with @parse/node-apn; see tests/interop/__init__.py.

"use strict";

const readline = require("readline");
const apn = require("@parse/node-apn");

async function send(given) {
  const provider = new apn.Provider({
    address: given.host,
    port: given.http2,
    ca: [given.ca],
    production: true,
    ...(given.mode === "certificate"
      ? { cert: given.certificate, key: given.certificate }
      : { token: { key: given.p8, keyId: given.key_id, teamId: given.team_id } }),
  });
  const notification = new apn.Notification();
  notification.alert = given.alert;
  notification.badge = given.badge;
  notification.sound = given.sound;
  notification.topic = given.topic;
  notification.pushType = given.push_type;
  notification.priority = given.priority;
  notification.expiry = given.expiration;
  notification.collapseId = given.collapse_id;
  const tokens = given.tokens.map(([token]) => token);
  // The first one alone: it does not wait to be told how many at once the server takes, and sends no refused one again.
  const results = [await provider.send(notification, tokens[0]), await provider.send(notification, tokens.slice(1))];
  provider.shutdown();
  return {
    accepted: results.flatMap(({ sent }) => sent).map(({ device }) => device),
    refused: results.flatMap(({ failed }) => failed).map(({ device, status, response, error }) =>
      [device, status, response ? response.reason : String(error), response && response.timestamp]),
  };
}

setTimeout(() => process.exit(1), 300000).unref();
readline.createInterface({ input: process.stdin }).once("line", async (line) => {
  process.stdout.write(JSON.stringify(await send(JSON.parse(line))), () => process.exit(0));
});
