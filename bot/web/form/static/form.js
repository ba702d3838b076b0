"use strict";

// What the form does by itself: it turns to success when the person has replied by text, and a
// button that was pressed is not pressed twice. Without this script, all else works the same.

const LOOK_EVERY = 2000; // milliseconds, at first
const LOOK_AT_LEAST_EVERY = 15000;
const SLOWER = 1.1;
const SLOWER_WHEN_IT_FAILS = 2;

const waiting = document.getElementById("waiting");

function wait() {
  const end = Date.now() + Number(waiting.dataset.left) * 1000;
  let pause = LOOK_EVERY;
  let timer = 0;
  let looking = false;

  async function verified() {
    const answer = await fetch("/status", { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(String(answer.status));
    return (await answer.json()).verified;
  }

  async function look() {
    if (looking) return;
    looking = true;
    clearTimeout(timer);
    try {
      if (!document.hidden && (await verified())) {
        location.replace("/success");
        return;
      }
      pause *= SLOWER;
    } catch {
      pause *= SLOWER_WHEN_IT_FAILS;
    } finally {
      looking = false;
    }
    pause = Math.min(pause, LOOK_AT_LEAST_EVERY);
    if (Date.now() < end) {
      timer = setTimeout(look, pause);
    } else {
      waiting.classList.remove("lively");
      waiting.textContent = "The code has ended. Please ask for a new one.";
    }
  }

  if (Date.now() < end) {
    waiting.classList.add("lively");
    waiting.textContent = "Send the code back as your answer to the text. This page then goes on by itself.";
  }
  document.addEventListener("visibilitychange", () => {
    // Who comes back from their messages has just replied.
    pause = LOOK_EVERY;
    if (!document.hidden && Date.now() < end) look();
  });
  timer = setTimeout(look, LOOK_EVERY);
}

const buttons = document.querySelectorAll("form button");

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", () => {
    for (const button of buttons) button.disabled = true;
  });
}
// A page that comes back from the browser's memory can be used again.
window.addEventListener("pageshow", () => {
  for (const button of buttons) button.disabled = false;
});

if (waiting !== null) wait();
