// The control API of the simulator, as the page uses it.

async function ask(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  const response = await fetch(path, options);
  const text = await response.text();
  const value = text ? JSON.parse(text) : null;
  if (!response.ok) throw new Error(value?.error?.message ?? `${response.status} ${response.statusText}`);
  return value;
}

const device = (token) => `v1/devices/${encodeURIComponent(token)}`;

export const getReceived = () => ask("GET", "v1/received?limit=2000");
export const clear = () => ask("DELETE", "v1/received");
export const getDevice = (token) => ask("GET", device(token));
export const setDevice = (token, changes) => ask("PUT", device(token), changes);
export const lint = async (push) => (await ask("POST", "v1/lint", push)).findings;
export const send = (push) => ask("POST", "v1/push", push);
export const getSimulator = () => ask("GET", "v1/simulator");
export const getAnswers = async () => (await ask("GET", "v1/answers")).answers;
export const planAnswer = (plan) => ask("POST", "v1/answers", plan);
export const removeAnswers = (number) => ask("DELETE", number === undefined ? "v1/answers" : `v1/answers/${number}`);
export const sendStrings = async (text) => (await ask("POST", "v1/strings", { text })).strings;

// Listen for what comes after a number. `got` is called with lists of notifications, `changed` with those on which there is
// another verdict now, `cleared` with the number up to which they were removed, `state` with whether the connection stands. The browser connects again by itself, and the
// server then goes on where it was.
export function listen(after, { got, changed, cleared, state }) {
  const source = new EventSource(`v1/events?after=${after}`);
  source.onopen = () => state(true);
  source.onerror = () => {
    state(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(after, { got, changed, cleared, state }), 3000);
  };
  source.addEventListener("received", (event) => got(JSON.parse(event.data).received));
  source.addEventListener("changed", (event) => changed(JSON.parse(event.data).received));
  source.addEventListener("cleared", (event) => cleared(JSON.parse(event.data).id));
}
