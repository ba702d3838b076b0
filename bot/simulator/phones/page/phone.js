"use strict";

// The phones of `bot demo`. All that is shown comes as server-sent events; nothing is believed of
// a text: it is only ever set as text.

const TICKS = { queued: "queued", sent: "✓ sent", delivered: "✓✓ delivered", failed: "✗ failed" };
const WRITTEN_BY = { person: "You", bot: "Bot", carrier: "Telnyx" };
const STATES = {
  idle: "idle", awaiting_code: "awaiting the code", verified: "verified",
  locked: "locked", opted_out: "opted out",
};
const WAYS = { webhook: "Telnyx → bot", api: "bot → Telnyx", event: "bot → app" };
const TYPES = { webhook: /"event_type": *"([^"]+)"/, event: /"type": *"([^"]+)"/ };
const MOST_EXCHANGES = 200;

const byId = (id) => document.getElementById(id);
const { botNumber, firstPhone } = document.body.dataset;
const phones = new Map();
let ahead = 0; // milliseconds by which the bot's clock is ahead of this page's

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// Ask the demo for something; where it refuses, tell why in `place` and return null.
async function ask(path, body, place) {
  place.textContent = "";
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  }).catch(() => null);
  if (answer === null) {
    place.textContent = "The demo does not answer: is it still running?";
    return null;
  }
  const told = await answer.json();
  if (!answer.ok) {
    place.textContent = told.detail;
    return null;
  }
  return told;
}

function lasting(milliseconds) {
  const seconds = Math.ceil(milliseconds / 1000);
  const two = (number) => String(number).padStart(2, "0");
  const clock = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return seconds < 3600 ? clock : `${Math.floor(seconds / 3600)}:${clock}`;
}

function took(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 100 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
}

class Phone {
  constructor(number) {
    this.number = number;
    this.standing = null;
    this.messages = new Map();
    this.card = byId("phone-template").content.firstElementChild.cloneNode(true);
    this.card.dataset.phone = number;
    const title = this.card.querySelector("h2");
    title.textContent = number;
    title.id = `phone-${number.slice(1)}`;
    this.card.setAttribute("aria-labelledby", title.id);
    this.log = this.card.querySelector(".messages");
    this.told = this.card.querySelector(".told");
    this.log.setAttribute("aria-label", `Messages of ${number}`);
    this.input = this.card.querySelector("input");
    this.input.setAttribute("aria-label", `Text from ${number}`);
    this.card.querySelector(".quick").setAttribute("aria-label", `Texts often sent from ${number}`);
    this.card.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.input.value;
      this.input.value = "";
      this.send(text);
    });
    for (const button of this.card.querySelectorAll("[data-text]")) {
      button.addEventListener("click", () => this.send(button.dataset.text));
    }
    byId("phones").append(this.card);
  }

  async send(text) {
    const answered = await ask("/simulator/texts", { from: this.number, text }, this.told);
    if (answered === null) this.input.value ||= text;
    else if (answered.webhook_status !== 200) {
      this.told.textContent = `The bot answered the webhook with ${answered.webhook_status}.`;
    }
  }

  fillIn(code) {
    this.input.value = code;
    this.input.focus();
  }

  show(text) {
    const shown = this.messages.get(text.id);
    const message = shown ?? make("div", "");
    message.className = `message ${text.author} ${text.progress}`;
    if (!shown) {
      message.append(this.bubble(text), make("p", "meta"));
      this.messages.set(text.id, message);
      this.log.append(message);
      this.log.scrollTop = this.log.scrollHeight;
    }
    message.lastChild.replaceChildren(...this.meta(text));
  }

  bubble(text) {
    const bubble = make("p", "bubble");
    bubble.append(make("span", "unseen", `${WRITTEN_BY[text.author]}: `));
    if (text.code === null || text.author !== "bot") {
      bubble.append(text.text);
      return bubble;
    }
    const start = text.text.indexOf(text.code);
    const [before, after] = [text.text.slice(0, start), text.text.slice(start + text.code.length)];
    const button = make("button", "code", text.code);
    button.type = "button";
    button.setAttribute("aria-label", `Fill in the code ${text.code}`);
    button.addEventListener("click", () => this.fillIn(text.code));
    bubble.append(before, button, after);
    return bubble;
  }

  meta(text) {
    const facts = [];
    if (text.author === "carrier") facts.push("by Telnyx itself");
    if (text.shape !== "plain") facts.push(text.shape);
    if (text.took !== null) facts.push(`after ${took(text.took)}`);
    facts.push(`${text.segments} ${text.segments === 1 ? "segment" : "segments"}, ${text.encoding}`);
    return [`${facts.join(" · ")} · `, make("span", "progress", TICKS[text.progress])];
  }

  tick(now) {
    if (this.standing === null) return this.unknown();
    const { state, tries_left: tries, expires_at: expiry, locked_until: lock } = this.standing;
    const locked = lock === null ? 0 : Date.parse(lock) - now;
    const left = expiry === null ? 0 : Date.parse(expiry) - now;
    this.fact("state", locked > 0 ? `locked for ${lasting(locked)}` : STATES[state], state);
    this.fact("tries", String(tries));
    const waiting = state === "awaiting_code" && expiry !== null;
    this.fact("expiry", waiting ? (left > 0 ? `in ${lasting(left)}` : "it has expired") : "–");
  }

  unknown() {
    this.fact("state", "not known yet");
    this.fact("tries", "–");
    this.fact("expiry", "–");
  }

  fact(name, text, className = "") {
    const fact = this.card.querySelector(`[data-fact=${name}]`);
    if (fact.textContent !== text) fact.textContent = text;
    fact.className = className;
  }

  clear() {
    this.standing = null;
    this.messages.clear();
    this.log.replaceChildren();
  }
}

function phoneOf(number) {
  if (!phones.has(number)) phones.set(number, new Phone(number));
  return phones.get(number);
}

function addPhone() {
  let next = BigInt(firstPhone.slice(1));
  while (phones.has(`+${next}`)) next += 1n;
  phoneOf(`+${next}`).input.focus();
}

function headline(exchange) {
  const summary = make("summary", "");
  const way = WAYS[exchange.wire];
  const what = TYPES[exchange.wire]?.exec(exchange.request.body)?.[1];
  const line = exchange.request.start.split(" ").slice(0, 2).join(" ");
  const status = exchange.answer?.start.split(" ")[1];
  const told = status ?? (exchange.seconds === null ? "waiting …" : "dropped");
  const bad = !status?.startsWith("2") && exchange.seconds !== null;
  const time = exchange.seconds === null ? "" : ` ${took(exchange.seconds)}`;
  summary.append(
    `${exchange.at.slice(11, 19)} ${way}: ${line} ${what ?? ""} `,
    make("span", bad ? "status bad" : "status", told),
    time,
  );
  return summary;
}

function written(message) {
  const headers = message.headers.map(([name, value]) => `${name}: ${value}`);
  return [message.start, ...headers, "", message.body].join("\n");
}

function laidOut(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return null;
  }
}

function inspect(exchange) {
  const id = `exchange-${exchange.id}`;
  const shown = byId(id);
  const details = shown ?? make("details", "exchange");
  details.id = id;
  const parts = [headline(exchange), make("pre", "", written(exchange.request))];
  if (exchange.answer !== null) parts.push(make("pre", "", written(exchange.answer)));
  const body = laidOut(exchange.request.body);
  if (body !== null) {
    const more = make("details", "");
    more.append(make("summary", "", "The request's body, laid out"), make("pre", "", body));
    parts.push(more);
  }
  details.replaceChildren(...parts);
  const list = byId("exchanges");
  if (!shown) list.prepend(details);
  while (list.childElementCount > MOST_EXCHANGES) list.lastChild.remove();
}

const armed = new Map();

function arm(name, by) {
  const button = document.querySelector(`[data-fault="${CSS.escape(name ?? "")}"]`);
  if (button === null) return;
  armed.set(name, Math.max(0, (armed.get(name) ?? 0) + by));
  const count = armed.get(name);
  const badge = button.querySelector(".armed");
  badge.textContent = ["", " armed"][count] ?? ` armed, ${count} times`;
}

function begin() {
  for (const phone of phones.values()) phone.clear();
  for (const name of armed.keys()) arm(name, -Infinity);
  byId("exchanges").replaceChildren();
}

const SHOWN = {
  Beginning: begin,
  PhoneText: (entry) => phoneOf(entry.phone).show(entry),
  Exchange: inspect,
  PhoneStatus: (entry) => {
    if (entry.bot_number === botNumber) phoneOf(entry.phone).standing = entry;
  },
  FaultArmed: (entry) => arm(entry.name, +1),
  FaultMet: (entry) => arm(entry.name, -1),
  ClockMoved: () => {},
};

function tick() {
  const now = Date.now() + ahead;
  const moment = new Date(now);
  byId("time").dateTime = moment.toISOString();
  byId("time").textContent = `${moment.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  for (const phone of phones.values()) phone.tick(now);
}

function listen() {
  const events = new EventSource("/simulator/events");
  events.onopen = () => { byId("connection").textContent = "connected"; };
  events.onerror = () => { byId("connection").textContent = "the demo does not answer; trying again …"; };
  events.onmessage = ({ data }) => {
    const entry = JSON.parse(data);
    ahead = Date.parse(entry.now) - Date.now();
    SHOWN[entry.kind](entry);
    tick();
  };
}

for (const button of document.querySelectorAll("[data-jump]")) {
  button.addEventListener("click", async () => {
    const moved = await ask("/simulator/clock", { ahead: button.dataset.jump }, byId("told"));
    if (moved !== null) byId("told").textContent = `It is ${button.textContent} later now.`;
  });
}
for (const button of document.querySelectorAll("[data-fault]")) {
  button.addEventListener("click", () => {
    ask("/simulator/faults", { fault: button.dataset.fault }, byId("told"));
  });
}
byId("add-phone").addEventListener("click", addPhone);
phoneOf(firstPhone).input.focus({ preventScroll: true });
setInterval(tick, 250);
listen();
