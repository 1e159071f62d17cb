"use strict";
// Shows what each stop of a chart says: under the pointer, and with the arrow keys on a chart that has
// the focus. Without this script, browsers show the stops' titles.
(() => {
  const tip = document.getElementById("tip");
  const texts = new WeakMap();
  let shown = null;
  // Whether it was a key that showed it. Then only a key or a pointer that really moves takes it away:
  // when the page scrolls, browsers also say that a pointer moved that did not.
  let isByKey = false;
  let pointer = [-1, -1];

  for (const stop of document.querySelectorAll(".stop")) {
    const title = stop.querySelector("title");
    texts.set(stop, title.textContent);
    title.remove();
  }

  const hide = () => {
    shown?.classList.remove("shown");
    shown = null;
    tip.hidden = true;
  };

  const show = (stop, x, y) => {
    if (stop !== shown) {
      hide();
      shown = stop;
      stop.classList.add("shown");
      tip.textContent = texts.get(stop);
      tip.hidden = false;
    }
    const { width, height } = tip.getBoundingClientRect();
    const right = x + 16 + width > innerWidth - 4;
    tip.style.left = Math.max(4, right ? x - 16 - width : x + 16) + "px";
    tip.style.top = Math.max(4, Math.min(y - height / 2, innerHeight - height - 4)) + "px";
  };

  const showAtItself = (stop) => {
    const box = stop.querySelector("line").getBoundingClientRect();
    show(stop, box.x, box.y + box.height / 2);
  };

  const follow = (event) => {
    const [x, y] = pointer;
    pointer = [event.clientX, event.clientY];
    if (isByKey && event.type === "pointermove" && event.clientX === x && event.clientY === y) return;
    isByKey = false;
    const stop = event.target.closest?.(".stop");
    if (stop) show(stop, event.clientX, event.clientY);
    else hide();
  };
  document.addEventListener("pointermove", follow);
  document.addEventListener("pointerdown", follow);
  const onScroll = () => {
    if (isByKey && shown) showAtItself(shown);
    else hide();
  };
  document.addEventListener("scroll", onScroll, { passive: true });

  for (const plot of document.querySelectorAll(".plot")) {
    const stops = [...plot.querySelectorAll(".stop")];
    plot.addEventListener("keydown", (event) => {
      const at = stops.indexOf(shown);
      const next = {
        ArrowLeft: at < 0 ? stops.length - 1 : Math.max(at - 1, 0),
        ArrowRight: Math.min(at + 1, stops.length - 1),
        Home: 0,
        End: stops.length - 1,
      }[event.key];
      if (event.key === "Escape") hide();
      if (next === undefined || !stops[next]) return;
      event.preventDefault();
      isByKey = true;
      showAtItself(stops[next]);
    });
    plot.addEventListener("blur", hide);
  }
})();
