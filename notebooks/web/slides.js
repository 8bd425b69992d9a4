// Keys and buttons turn to another slide; a finger scrolls, and the deck snaps. The address keeps the slide, e.g. #slide-3.
const slides = [...document.querySelectorAll("#deck section")];
const [back, on] = document.querySelectorAll("#turn button");
const steps = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 };
let at = 0;

function say(i) {
  at = i;
  document.getElementById("count").textContent = `${at + 1} of ${slides.length}`;
  back.disabled = at === 0;
  on.disabled = at === slides.length - 1;
  history.replaceState(null, "", `#${slides[at].id}`);
}

function turn(i) {
  say(Math.min(Math.max(i, 0), slides.length - 1));
  slides[at].scrollIntoView({ inline: "start", block: "start" });
}

function read() {
  const named = slides.findIndex((slide) => `#${slide.id}` === location.hash);
  const wrong = location.hash && named < 0;
  document.getElementById("message").textContent = wrong ? `There is no slide ${location.hash}. This is the first.` : "";
  turn(Math.max(named, 0));
}

back.addEventListener("click", () => turn(at - 1));
on.addEventListener("click", () => turn(at + 1));
addEventListener("hashchange", read);
addEventListener("keydown", (event) => {
  const to = { Home: 0, End: slides.length - 1 }[event.key] ?? at + steps[event.key];
  if (Number.isNaN(to) || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("a, button, summary")) return;
  event.preventDefault();
  turn(to);
});
const seen = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => say(slides.indexOf(entry.target))),
  { threshold: 0.6 },
);
read();
slides.forEach((slide) => seen.observe(slide));
document.documentElement.dataset.ready = "";
