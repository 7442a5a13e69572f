"use strict";
for (const film of document.querySelectorAll(".film:has(input)")) {
  const slider = film.querySelector("input");
  const button = film.querySelector("button");
  const output = film.querySelector("output");
  const last = Number(film.dataset.steps);
  const sites = Array.from(film.querySelectorAll("[data-s]"), (site) => [site, Number(site.dataset.s)]);
  let timer = 0;
  const show = () => {
    const step = Number(slider.value);
    for (const [site, own] of sites) {
      site.classList.toggle("later", own > step);
      site.classList.toggle("now", own === step && step > 0 && step < last);
    }
    output.textContent = `${step} of ${last}`;
    slider.setAttribute("aria-valuetext", `step ${step} of ${last}`);
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  };
  slider.addEventListener("input", () => {
    stop();
    show();
  });
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (Number(slider.value) >= last) slider.value = 0;
    show();
    button.textContent = "Pause";
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (Number(slider.value) >= last) stop();
    }, Math.max(120, Math.min(700, 6000 / last)));
  });
  slider.disabled = button.disabled = false;
  show();
}
