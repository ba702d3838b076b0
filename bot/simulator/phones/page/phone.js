"use strict";

// The phones of `bot demo`. Everything shown comes from server-sent events. Texts are untrusted, so
// they are only ever set as textContent.

const ARRIVALS = { queued: "queued", sent: "✓ sent", delivered: "✓✓ delivered", failed: "✗ failed" };
const AUTHORS = { person: "You", bot: "Bot", carrier: "Telnyx" };
const STATES = {
  idle: "idle", awaiting_code: "awaiting the code", verified: "verified",
  locked: "locked", opted_out: "opted out",
};
const ROUTES = { webhook: "Telnyx → bot", api: "bot → Telnyx", event: "bot → app" };
const EVENT_TYPES = { webhook: /"event_type": *"([^"]+)"/, event: /"type": *"([^"]+)"/ };
const MAX_EXCHANGES = 200;

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

// Post to the demo and return its response; on an error show it in `output` and return null.
async function post(path, body, output) {
  output.textContent = "";
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  }).catch(() => null);
  if (response === null) {
    output.textContent = "The demo does not answer: is it still running?";
    return null;
  }
  const result = await response.json();
  if (!response.ok) {
    output.textContent = result.detail;
    return null;
  }
  return result;
}

function formatCountdown(milliseconds) {
  const seconds = Math.ceil(milliseconds / 1000);
  const pad = (number) => String(number).padStart(2, "0");
  const clock = `${pad(Math.floor(seconds / 60) % 60)}:${pad(seconds % 60)}`;
  return seconds < 3600 ? clock : `${Math.floor(seconds / 3600)}:${clock}`;
}

function formatSeconds(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 100 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
}

class Phone {
  constructor(number) {
    this.number = number;
    this.status = null;
    this.messages = new Map();
    this.card = byId("phone-template").content.firstElementChild.cloneNode(true);
    this.card.dataset.phone = number;
    const title = this.card.querySelector("h2");
    title.textContent = number;
    title.id = `phone-${number.slice(1)}`;
    this.card.setAttribute("aria-labelledby", title.id);
    this.log = this.card.querySelector(".messages");
    this.error = this.card.querySelector(".error");
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
    const result = await post("/simulator/texts", { from: this.number, text }, this.error);
    if (result === null) this.input.value ||= text;
    else if (result.webhook_status !== 200) {
      this.error.textContent = `The bot answered the webhook with ${result.webhook_status}.`;
    }
  }

  fillIn(code) {
    this.input.value = code;
    this.input.focus();
  }

  show(text) {
    const known = this.messages.get(text.id);
    const message = known ?? make("div", "");
    message.className = `message ${text.author} ${text.arrival}`;
    if (!known) {
      message.append(this.bubble(text), make("p", "meta"));
      this.messages.set(text.id, message);
      this.log.append(message);
      this.log.scrollTop = this.log.scrollHeight;
    }
    message.lastChild.replaceChildren(...this.meta(text));
  }

  bubble(text) {
    const bubble = make("p", "bubble");
    bubble.append(make("span", "unseen", `${AUTHORS[text.author]}: `));
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
    const parts = [];
    if (text.author === "carrier") parts.push("by Telnyx itself");
    if (text.shape !== "plain") parts.push(text.shape);
    if (text.took !== null) parts.push(`after ${formatSeconds(text.took)}`);
    parts.push(`${text.segments} ${text.segments === 1 ? "segment" : "segments"}, ${text.encoding}`);
    return [`${parts.join(" · ")} · `, make("span", "arrival", ARRIVALS[text.arrival])];
  }

  tick(now) {
    if (this.status === null) return this.showUnknown();
    const { state, tries_left: tries, expires_at: expiry, locked_until: lock } = this.status;
    const locked = lock === null ? 0 : Date.parse(lock) - now;
    const left = expiry === null ? 0 : Date.parse(expiry) - now;
    this.fact("state", locked > 0 ? `locked for ${formatCountdown(locked)}` : STATES[state], state);
    this.fact("tries", String(tries));
    const waiting = state === "awaiting_code" && expiry !== null;
    this.fact("expiry", waiting ? (left > 0 ? `in ${formatCountdown(left)}` : "it has expired") : "–");
  }

  showUnknown() {
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
    this.status = null;
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

function makeSummary(exchange) {
  const summary = make("summary", "");
  const route = ROUTES[exchange.wire];
  const eventType = EVENT_TYPES[exchange.wire]?.exec(exchange.request.body)?.[1];
  const line = exchange.request.start.split(" ").slice(0, 2).join(" ");
  const status = exchange.response?.start.split(" ")[1];
  const label = status ?? (exchange.seconds === null ? "waiting …" : "dropped");
  const failed = !status?.startsWith("2") && exchange.seconds !== null;
  const time = exchange.seconds === null ? "" : ` ${formatSeconds(exchange.seconds)}`;
  summary.append(
    `${exchange.at.slice(11, 19)} ${route}: ${line} ${eventType ?? ""} `,
    make("span", failed ? "status bad" : "status", label),
    time,
  );
  return summary;
}

function formatMessage(message) {
  const headers = message.headers.map(([name, value]) => `${name}: ${value}`);
  return [message.start, ...headers, "", message.body].join("\n");
}

function formatJson(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return null;
  }
}

function showExchange(exchange) {
  const id = `exchange-${exchange.id}`;
  const known = byId(id);
  const details = known ?? make("details", "exchange");
  details.id = id;
  const parts = [makeSummary(exchange), make("pre", "", formatMessage(exchange.request))];
  if (exchange.response !== null) parts.push(make("pre", "", formatMessage(exchange.response)));
  const body = formatJson(exchange.request.body);
  if (body !== null) {
    const more = make("details", "");
    more.append(make("summary", "", "The request's body, formatted"), make("pre", "", body));
    parts.push(more);
  }
  details.replaceChildren(...parts);
  const list = byId("exchanges");
  if (!known) list.prepend(details);
  while (list.childElementCount > MAX_EXCHANGES) list.lastChild.remove();
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

function reset() {
  for (const phone of phones.values()) phone.clear();
  for (const name of armed.keys()) arm(name, -Infinity);
  byId("exchanges").replaceChildren();
}

const HANDLERS = {
  Reset: reset,
  PhoneText: (entry) => phoneOf(entry.phone).show(entry),
  Exchange: showExchange,
  PhoneStatus: (entry) => {
    if (entry.bot_number === botNumber) phoneOf(entry.phone).status = entry;
  },
  FaultArmed: (entry) => arm(entry.name, +1),
  FaultTriggered: (entry) => arm(entry.name, -1),
  ClockMoved: () => {},
};

function tick() {
  const now = Date.now() + ahead;
  const date = new Date(now);
  byId("time").dateTime = date.toISOString();
  byId("time").textContent = `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  for (const phone of phones.values()) phone.tick(now);
}

function listen() {
  const events = new EventSource("/simulator/events");
  events.onopen = () => { byId("connection").textContent = "connected"; };
  events.onerror = () => { byId("connection").textContent = "the demo does not answer; trying again …"; };
  events.onmessage = ({ data }) => {
    const entry = JSON.parse(data);
    ahead = Date.parse(entry.now) - Date.now();
    HANDLERS[entry.kind](entry);
    tick();
  };
}

for (const button of document.querySelectorAll("[data-jump]")) {
  button.addEventListener("click", async () => {
    const moved = await post("/simulator/clock", { ahead: button.dataset.jump }, byId("message"));
    if (moved !== null) byId("message").textContent = `The clock moved ahead by ${button.textContent}.`;
  });
}
for (const button of document.querySelectorAll("[data-fault]")) {
  button.addEventListener("click", () => {
    post("/simulator/faults", { fault: button.dataset.fault }, byId("message"));
  });
}
byId("add-phone").addEventListener("click", addPhone);
phoneOf(firstPhone).input.focus({ preventScroll: true });
setInterval(tick, 250);
listen();
