"use strict";

// The table: a heading sorts up, then down, then as it was. Cells without a value stay last.
const table = document.getElementById("results");
const original = [...table.tBodies[0].rows];
const headings = [...table.tHead.rows[0].cells];
const next = { none: "ascending", ascending: "descending", descending: "none" };

function keyOf(row, column) {
  const cell = row.cells[column];
  if (cell.tagName === "TH") return cell.textContent;
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

function compare(a, b) {
  return typeof a === "string" ? a.localeCompare(b, "en") : a - b;
}

function sortBy(column) {
  const order = next[headings[column].getAttribute("aria-sort")];
  headings.forEach((th, k) => th.setAttribute("aria-sort", k === column ? order : "none"));
  let rows = original;
  if (order !== "none") {
    const sign = order === "ascending" ? 1 : -1;
    const known = original.filter((row) => keyOf(row, column) !== null);
    known.sort((a, b) => sign * compare(keyOf(a, column), keyOf(b, column)));
    rows = [...known, ...original.filter((row) => keyOf(row, column) === null)];
  }
  table.tBodies[0].append(...rows);
}

headings.forEach((th, k) => th.querySelector("button").addEventListener("click", () => sortBy(k)));

// Players: one at a time, with a line in the picture where it is.
const players = [...document.querySelectorAll("figure audio")];

function follow(audio, cursor) {
  cursor.style.left = `${(100 * audio.currentTime) / Number(audio.dataset.seconds)}%`;
  cursor.style.opacity = audio.currentTime > 0 && !audio.ended ? 1 : 0;
  if (!audio.paused) requestAnimationFrame(() => follow(audio, cursor));
}

for (const audio of players) {
  const picture = audio.parentElement.querySelector(".picture");
  const cursor = picture.querySelector(".cursor");
  audio.addEventListener("play", () => {
    players.filter((other) => other !== audio).forEach((other) => other.pause());
    follow(audio, cursor);
  });
  for (const event of ["seeked", "pause", "ended"]) audio.addEventListener(event, () => follow(audio, cursor));
  picture.addEventListener("click", (press) => {
    const box = picture.getBoundingClientRect();
    audio.currentTime = ((press.clientX - box.left) / box.width) * Number(audio.dataset.seconds);
    audio.play();
  });
}
