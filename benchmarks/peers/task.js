// What a sender written for node is asked by benchmarks/http2.py, and how it tells what it took.
'use strict';

const TASK = JSON.parse(process.argv[2]);

// Generate so many tokens; the server takes those that begin with dd for dead.
function* tokens(count) {
  for (let number = 0; number < count; number++) {
    const dead = TASK.dead_every && number % TASK.dead_every === 0;
    yield (dead ? 'dd' : '00') + number.toString(16).padStart(62, '0');
  }
}

// Have so many sent, so many at once, by sendOne(token), which tells if it was accepted.
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

// Send, print what it took, and leave.
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
