"use strict";

// Goes on to the success page when the person has replied by text, and keeps a button from being
// pressed twice. Without this script, everything else works the same.

const POLL_INTERVAL = 2000; // milliseconds, at first
const MAX_POLL_INTERVAL = 15000;
const SLOWDOWN = 1.1;
const SLOWDOWN_AFTER_ERROR = 2;

const waiting = document.getElementById("waiting");

function waitForReply() {
  const expiresAt = Date.now() + Number(waiting.dataset.secondsLeft) * 1000;
  let interval = POLL_INTERVAL;
  let timer = 0;
  let polling = false;

  async function isVerified() {
    const response = await fetch("/status", { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(String(response.status));
    return (await response.json()).verified;
  }

  async function poll() {
    if (polling) return;
    polling = true;
    clearTimeout(timer);
    try {
      if (!document.hidden && (await isVerified())) {
        location.replace("/success");
        return;
      }
      interval *= SLOWDOWN;
    } catch {
      interval *= SLOWDOWN_AFTER_ERROR;
    } finally {
      polling = false;
    }
    interval = Math.min(interval, MAX_POLL_INTERVAL);
    if (Date.now() < expiresAt) {
      timer = setTimeout(poll, interval);
    } else {
      waiting.classList.remove("animated");
      waiting.textContent = "The code has expired. Please ask for a new one.";
    }
  }

  if (Date.now() < expiresAt) {
    waiting.classList.add("animated");
    waiting.textContent = "This page then goes on by itself.";
  }
  document.addEventListener("visibilitychange", () => {
    // A person who comes back from their messages may just have replied.
    interval = POLL_INTERVAL;
    if (!document.hidden && Date.now() < expiresAt) poll();
  });
  timer = setTimeout(poll, POLL_INTERVAL);
}

const buttons = document.querySelectorAll("form button");

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", () => {
    for (const button of buttons) button.disabled = true;
  });
}
// A page restored from the browser's back/forward cache must be usable again.
window.addEventListener("pageshow", () => {
  for (const button of buttons) button.disabled = false;
});

if (waiting !== null) waitForReply();
