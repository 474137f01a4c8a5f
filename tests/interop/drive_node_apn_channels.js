// Broadcast with @parse/node-apn, and manage channels; see tests/interop/__init__.py.

"use strict";

const readline = require("readline");
const apn = require("@parse/node-apn");

async function broadcast(given) {
  const provider = new apn.Provider({
    address: given.host,
    port: given.http2,
    manageChannelsAddress: given.host,
    manageChannelsPort: given.http2,
    ca: [given.ca],
    production: true,
    token: { key: given.p8, keyId: given.key_id, teamId: given.team_id },
  });
  const manage = async (action, channelId, payload = {}) => {
    const notification = new apn.Notification();
    notification.payload = payload;
    notification.channelId = channelId;
    const { sent, failed } = await provider.manageChannels(notification, given.topic, action);
    return failed.length ? failed[0] : sent[0];
  };
  const update = async (channelId) => {
    const notification = new apn.Notification();
    notification.channelId = channelId;
    notification.pushType = "liveactivity";
    notification.priority = 10;
    notification.expiry = 0;
    notification.event = "update";
    notification.timestamp = given.timestamp;
    notification.contentState = { score: 1 };
    const { sent, failed } = await provider.broadcast(notification, given.topic);
    return failed.length ? failed[0] : sent[0];
  };
  const create = () => manage("create", undefined, { "message-storage-policy": 0, "push-type": "LiveActivity" });
  const made = await create();
  const channel = made["apns-channel-id"];
  const said = {
    made,
    listed: await manage("readAll"),
    read: await manage("read", channel),
    sent: await update(channel),
    deleted: await manage("delete", channel),
    refused: await update(channel),
  };
  provider.shutdown();
  return said;
}

setTimeout(() => process.exit(1), 300000).unref();
readline.createInterface({ input: process.stdin }).once("line", async (line) => {
  process.stdout.write(JSON.stringify(await broadcast(JSON.parse(line))), () => process.exit(0));
});
