// Send with @parse/node-apn, for benchmarks/http2.py; see there.
'use strict';

const fs = require('fs');
const apn = require('@parse/node-apn');
const { TASK, measure } = require('./task.js');

const options = {
  token: { key: TASK.p8, keyId: TASK.key_id, teamId: TASK.team_id },
  address: 'localhost',
  port: TASK.port,
  ca: fs.readFileSync(TASK.ca),
  production: true,
};
const provider =
  TASK.connections === 1
    ? new apn.Provider(options)
    : new apn.MultiProvider({ ...options, clientCount: TASK.connections });
const notification = new apn.Notification({ topic: TASK.topic, pushType: 'alert', alert: TASK.alert });

measure(async token => (await provider.send(notification, token)).sent.length === 1);
