// The planned answers: those there are, and a form that plans another.
import * as api from "./api.js";
import { box, input, select } from "./controls.js";
import { make, place, setText, shorten, tell } from "./dom.js";

const USUAL = [["", "choose, or fill in"], "400 BadDeviceToken", "400 DeviceTokenNotForTopic", "403 ExpiredProviderToken", "403 InvalidProviderToken", "410 Unregistered", "410 ExpiredToken", "413 PayloadTooLarge", "429 TooManyRequests", "500 InternalServerError", "503 ServiceUnavailable", "503 Shutdown"];
const PACKETS = [["", "not given"], ["1", "1 processing error"], ["2", "2 missing token"], ["3", "3 missing topic"], ["4", "4 missing payload"], ["5", "5 invalid token size"], ["7", "7 invalid payload size"], ["8", "8 invalid token"], ["255", "255 unknown"]];
const TEXTS = ["token", "topic", "push_type", "reason"];
const NUMBERS = ["status", "error_packet", "times", "chance", "delay"];
const FLAGS = ["goaway", "drop"];

const field = (name) => place(`plan-${name}`);

export const plansShown = () => place("plans").open;

// Open the box; what is planned is for the device with a token, until that is deleted from the form.
export function openPlans(token) {
  field("token").value = token;
  setText(field("problem"), "");
  place("plans").showModal();
  field("usual").focus();
  showPlans();
}

// Say what there is now.
export async function showPlans() {
  try {
    const answers = await api.getAnswers();
    const items = answers.map((plan) =>
      make("li", {}, make("p", { dir: "auto" }, sentence(plan)), make("button", { type: "button", text: "Remove", "aria-label": `Remove: ${sentence(plan)}`, onclick: () => remove(plan.id) })),
    );
    const focused = field("list").contains(document.activeElement);
    field("list").replaceChildren(...items);
    if (focused) (field("list").querySelector("button") ?? field("token")).focus();
    field("none").hidden = answers.length > 0;
    field("all").hidden = !answers.length;
  } catch (error) {
    setText(field("problem"), error.message);
  }
}

function sentence(plan) {
  const answer = [plan.status && `${plan.status} ${plan.reason}`.trim(), plan.error_packet && `error packet ${plan.error_packet}`].filter(Boolean).join(", ");
  const way = [plan.goaway && "GOAWAY", plan.drop && "connection dropped", plan.delay && `after ${plan.delay} s`].filter(Boolean);
  const whom = [plan.token && `token ${shorten(plan.token)}`, plan.topic, plan.push_type && `type ${plan.push_type}`].filter(Boolean);
  const often = [plan.chance < 1 && `${Math.round(plan.chance * 1000) / 10} % of the time`, plan.times && `${plan.times} more times`, `given ${plan.given} times`].filter(Boolean);
  return `${[answer || "the usual answer", ...way].join(", ")} · for ${whom.join(", ") || "every push"} · ${often.join(", ")}`;
}

async function remove(number) {
  try {
    await api.removeAnswers(number);
  } catch (error) {
    tell(error.message);
  }
  await showPlans();
}

function planned() {
  const plan = {};
  for (const name of TEXTS) if (field(name).value.trim()) plan[name] = field(name).value.trim();
  for (const name of NUMBERS) {
    const text = field(name).value.trim();
    if (text) plan[name] = Number.isFinite(Number(text)) ? Number(text) : text;
  }
  if (typeof plan.chance === "number") plan.chance /= 100;
  for (const name of FLAGS) if (field(name).checked) plan[name] = true;
  return plan;
}

async function plan(event) {
  event.preventDefault();
  try {
    await api.planAnswer(planned());
    setText(field("problem"), "");
    tell("Planned");
  } catch (error) {
    setText(field("problem"), error.message);
  }
  await showPlans();
}

function useUsual(choice) {
  const [status = "", reason = ""] = choice.value.split(" ");
  field("status").value = status;
  field("reason").value = reason;
}

export function preparePlans() {
  const close = () => place("plans").close();
  const head = make("div", { class: "row" }, make("h2", { id: "plans-heading", text: "Planned answers" }), make("button", { type: "button", text: "Close", onclick: close }));
  const list = make("ul", { id: "plan-list", class: "plans", "aria-label": "Planned answers" });
  const none = make("p", { id: "plan-none", class: "muted", text: "None: every push is answered as Apple would." });
  const all = make("button", { id: "plan-all", type: "button", text: "Remove all", hidden: true, onclick: () => remove() });
  const fields = [
    input("plan-token", "Device token", { look: "wide", hint: "any" }),
    input("plan-topic", "Topic", { hint: "any" }),
    input("plan-push_type", "Push type", { hint: "any" }),
    select("plan-usual", "Answer over HTTP/2", USUAL, useUsual, "wide"),
    input("plan-status", "Status", { number: true, hint: "as it would be" }),
    input("plan-reason", "Reason", { hint: "none" }),
    select("plan-error_packet", "Error packet, over the binary protocol", PACKETS, () => {}, "wide"),
    input("plan-times", "Times", { number: true, hint: "no end" }),
    input("plan-chance", "Chance in %", { number: true, hint: "100" }),
    input("plan-delay", "Delay in seconds", { number: true, hint: "0" }),
    make("div", {}, box("plan-goaway", "GOAWAY", () => {}, "flag"), box("plan-drop", "Drop the connection", () => {}, "flag")),
  ];
  const problem = make("p", { id: "plan-problem", class: "problem", role: "alert" });
  const submit = make("button", { type: "submit", class: "primary", text: "Plan" });
  const form = make("form", {}, make("h3", { text: "Plan another" }), make("div", { class: "fields" }, ...fields), problem, make("p", { class: "buttons" }, submit));
  form.addEventListener("submit", plan);
  place("plans").append(head, list, none, make("p", { class: "buttons" }, all), form);
}
