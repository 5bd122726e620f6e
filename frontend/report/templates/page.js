"use strict";

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
