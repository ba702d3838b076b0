"use strict";

// Finds the number whose SHA-256 with the salt is the target, by trying all of them.

const BATCH = 500; // numbers hashed at once: one at a time, most of the time would be waiting
const encoder = new TextEncoder();

function hash(salt, number) {
  return crypto.subtle.digest("SHA-256", encoder.encode(`${salt}.${number}`));
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

self.onmessage = async ({ data: { salt, target, max } }) => {
  const begins = Number.parseInt(target.slice(0, 8), 16);
  for (let first = 0; first <= max; first += BATCH) {
    const hashes = await Promise.all(
      Array.from({ length: BATCH }, (_, each) => hash(salt, first + each)),
    );
    const found = hashes.findIndex(
      (each) => new DataView(each).getUint32(0) === begins && hex(each) === target,
    );
    if (found >= 0) {
      self.postMessage({ number: first + found });
      return;
    }
    self.postMessage({ tried: first + BATCH });
  }
  throw new Error("no number has this hash");
};
