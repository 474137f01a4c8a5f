// Send with apns2; see tests/interop/__init__.py.

"use strict";

const fs = require("fs");
const readline = require("readline");
const tls = require("tls");
const { ApnsClient, Notification } = require("apns2");

async function send(given) {
  const client = new ApnsClient({
    team: given.team_id,
    keyId: given.key_id,
    signingKey: fs.readFileSync(given.p8),
    defaultTopic: given.topic,
    host: given.host,
  });
  const notifications = given.tokens.map(
    ([token]) =>
      new Notification(token, {
        alert: given.alert,
        badge: given.badge,
        sound: given.sound,
        type: given.push_type,
        priority: given.priority,
        expiration: given.expiration,
        collapseId: given.collapse_id,
      }),
  );
  const results = await client.sendMany(notifications);
  await client.close();
  return {
    accepted: results.filter(({ error }) => !error).map(({ deviceToken }) => deviceToken),
    refused: results.flatMap(({ error }, place) =>
      error ? [[given.tokens[place][0], error.statusCode, error.reason ?? String(error), error.timestamp]] : []),
  };
}

setTimeout(() => process.exit(1), 300000).unref();
readline.createInterface({ input: process.stdin }).once("line", async (line) => {
  const given = JSON.parse(line);
  // The port is always 443: its user would have that lead to the server.
  const connect = tls.connect;
  tls.connect = (options) => connect({ ...options, port: given.http2 });
  process.stdout.write(JSON.stringify(await send(given)), () => process.exit(0));
});
