// Lets the remaining time run. Counts from the seconds the server named: this computer's clock may be wrong.
"use strict";
const timer = document.querySelector("[data-seconds-left]");
const end = performance.now() + 1000 * Number(timer.dataset.secondsLeft);
const tick = () => {
  const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
  timer.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")} left to pay`;
  if (left > 0) return;
  clearInterval(running);
  timer.textContent = "";
  document.querySelector(".over").textContent = "The time to pay is over. Go back to the shop and try again.";
  for (const button of document.querySelectorAll("button")) button.disabled = true;
};
const running = setInterval(tick, 500);
tick();
