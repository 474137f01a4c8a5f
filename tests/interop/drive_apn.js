// Send with apn, or read the feedback service; see tests/interop/__init__.py.

"use strict";

const readline = require("readline");
const apn = require("apn");

function answer(value) {
  console.log(JSON.stringify(value));
  process.exit(0);
}

function feedback(options) {
  const service = new apn.Feedback({ ...options, interval: 0 });
  service.on("feedback", (found) => answer({ feedback: found.map(({ device, time }) => [device.toString(), time]) }));
}

function send(request, options, enough) {
  const connection = new apn.Connection(options);
  const refused = [];
  connection.on("transmissionError", (status, _, device) => refused.push([device.toString(), status]));
  const notification = new apn.Notification();
  notification.alert = request.alert;
  notification.badge = request.badge;
  notification.sound = request.sound;
  notification.expiry = request.expiration;
  notification.priority = request.priority;
  request.tokens.forEach((token) => connection.pushNotification(notification, token));
  enough(() => answer({ refused }));
}

setTimeout(() => process.exit(1), 300000).unref();
const input = readline.createInterface({ input: process.stdin });
input.once("line", (line) => {
  const request = JSON.parse(line);
  const options = {
    address: request.host,
    port: request[request.task === "feedback" ? "feedback" : "binary"],
    ca: request.ca,
    pfx: request.pkcs12,
    passphrase: request.passphrase,
  };
  if (request.task === "feedback") feedback(options);
  else send(request, options, (then) => input.once("close", then));
});
