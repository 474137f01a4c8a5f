// Send with apnagent, or read the feedback service; see tests/interop/__init__.py.

"use strict";

const readline = require("readline");
const tls = require("tls");
const apnagent = require("apnagent");

function answer(value) {
  console.log(JSON.stringify(value));
  process.exit(0);
}

// It knows Apple's addresses only, so they are replaced on the way.
function redirect(request) {
  const connect = tls.connect;
  const ports = { 2195: request.binary, 2196: request.feedback };
  tls.connect = (options, ...others) =>
    connect({ ...options, host: request.host, port: ports[options.port] }, ...others);
}

function configure(service, request) {
  service.set("ca", require("fs").readFileSync(request.ca));
  service.set("pfx file", request.pkcs12);
  service.set("passphrase", request.passphrase);
}

function feedback(service) {
  const found = [];
  service.on("device", (device, when) => found.push([device.toString(), when.getTime() / 1000]));
  service.set("interval", "1h");
  service.connect();
  service.feedback.once("close", () => setImmediate(() => answer({ feedback: found })));
}

function send(agent, request, enough) {
  const refused = [];
  agent.set("reconnect delay", "50ms");
  agent.set("codec", request.mode);
  agent.on("message:error", (error) => refused.push([request.tokens[error.identifier], error.code]));
  request.tokens.forEach((token) => {
    const message = agent.createMessage().device(token);
    message.alert(request.alert).badge(request.badge).sound(request.sound);
    if (request.mode === "enhanced") message.expires("1h");
    message.send();
  });
  agent.connect();
  enough(() => answer({ refused }));
}

setTimeout(() => process.exit(1), 300000).unref();
const input = readline.createInterface({ input: process.stdin });
input.once("line", (line) => {
  const request = JSON.parse(line);
  redirect(request);
  const service = request.task === "feedback" ? new apnagent.Feedback() : new apnagent.Agent();
  configure(service, request);
  if (request.task === "feedback") feedback(service);
  else send(service, request, (then) => input.once("close", then));
});
