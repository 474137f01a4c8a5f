// Send with apns2, for benchmarks/http2.py; see there.
'use strict';

const fs = require('fs');
const { ApnsClient, ApnsError, Notification } = require('apns2');
const { Pool } = require('undici');
const { TASK, measure } = require('./task.js');

const client = new ApnsClient({
  team: TASK.team_id,
  keyId: TASK.key_id,
  signingKey: fs.readFileSync(TASK.p8, 'utf8'),
  defaultTopic: TASK.topic,
});
// It has no option for port, trust, or streams: this is its own pool with these changed. Its own allows 100 streams.
client.client = new Pool(`https://localhost:${TASK.port}`, {
  connections: TASK.connections,
  pipelining: TASK.streams,
  allowH2: true,
  maxConcurrentStreams: TASK.streams,
  connect: { ca: fs.readFileSync(TASK.ca) },
});

measure(async token => {
  try {
    await client.send(new Notification(token, { aps: { alert: TASK.alert } }));
    return true;
  } catch (error) {
    if (error instanceof ApnsError) return false;
    throw error;
  }
});
