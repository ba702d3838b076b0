"use strict";

// Goes on to the success page when the person has replied by text, solves the task that the form
// asks for at times, and keeps a button from being pressed twice. Without this script, everything
// else works the same, and instead of the task there is a wait.

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

const challenge = document.getElementById("challenge");

function workerUrl() {
  const url = "/static/proof-worker.js";
  // The page's policy allows no plain string where a script is loaded from.
  const policy = window.trustedTypes?.createPolicy("proof-worker", { createScriptURL: () => url });
  return policy ? policy.createScriptURL(url) : url;
}

function solveChallenge() {
  const working = document.getElementById("working");
  const slow = document.getElementById("slow");

  function show(solving) {
    working.hidden = !solving;
    slow.hidden = solving;
  }

  const worker = new Worker(workerUrl());
  worker.addEventListener("error", () => show(false));
  worker.addEventListener("message", ({ data }) => {
    if (data.number === undefined) {
      working.querySelector("progress").value = data.tried;
    } else {
      challenge.elements.number.value = data.number;
      challenge.submit();
    }
  });
  const { salt, target, max } = challenge.dataset;
  worker.postMessage({ salt, target, max: Number(max) });
  show(true);
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
// Browsers hash on pages from https and from this machine only.
if (challenge !== null && window.isSecureContext && window.Worker) solveChallenge();
