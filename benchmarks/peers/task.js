// The task that benchmarks/http2.py gives to a sender written for node, and how the sender reports.
'use strict';

const TASK = JSON.parse(process.argv[2]);

// Generate tokens; for the server those that begin with dd are dead.
function* tokens(count) {
  for (let number = 0; number < count; number++) {
    const dead = TASK.dead_every && number % TASK.dead_every === 0;
    yield (dead ? 'dd' : '00') + number.toString(16).padStart(62, '0');
  }
}

// Send with several workers by sendOne(token), which returns whether the notification was accepted.
async function sendEach(sendOne, count) {
  const left = tokens(count);
  let accepted = 0;
  const work = async () => {
    for (let next = left.next(); !next.done; next = left.next()) {
      if (await sendOne(next.value)) accepted += 1;
    }
  };
  await Promise.all(Array.from({ length: TASK.streams * TASK.connections }, work));
  return accepted;
}

// Send, print the results, and exit.
async function measure(sendOne) {
  await sendEach(sendOne, TASK.warm_up);
  const before = process.cpuUsage();
  const started = process.hrtime.bigint();
  const accepted = await sendEach(sendOne, TASK.count);
  const took = Number(process.hrtime.bigint() - started) / 1e9;
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ rate: TASK.count / took, cpu: (user + system) / TASK.count, accepted }));
  process.exit(0);
}

module.exports = { TASK, measure };
