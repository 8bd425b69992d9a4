// Draws the choice that the form shows. The address keeps it as its fragment, e.g. #proxy=nwot&alpha=0.95.
const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("choice");
const message = document.getElementById("message");
const dark = matchMedia("(prefers-color-scheme: dark)");
const views = {};
let drawn; // the subspace whose line is drawn

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const rounded = (value) => (value === null ? "not defined" : signed(value));
const chosen = (control) => (control.type === "range" ? data.choices[control.name][control.value] : control.value);

function read(fragment) {
  const choice = { ...data.first };
  const wrong = [];
  for (const [name, value] of new URLSearchParams(fragment)) {
    const known = Object.hasOwn(data.choices, name) && data.choices[name];
    if (!known) wrong.push(`The address sets "${name}". This page knows ${Object.keys(data.choices).join(", ")}.`);
    else if (known.includes(value)) choice[name] = value;
    else wrong.push(`The address asks for ${name} = "${value}". This page has ${known.join(", ")}; it shows ${data.first[name]}.`);
  }
  return { choice, wrong };
}

function show({ choice, wrong }) {
  for (const [name, value] of Object.entries(choice)) {
    const control = form.elements[name];
    control.value = control.type === "range" ? data.choices[name].indexOf(value) : value;
  }
  message.textContent = wrong.join(" ");
  draw();
}

function draw() {
  const choice = Object.fromEntries(Object.keys(data.choices).map((name) => [name, chosen(form.elements[name])]));
  const subspace = [choice.convolutions, choice.proxy, choice.norm].join(" ");
  const setting = `${subspace} ${choice.alpha}`;
  const [count, rho, low, high, n, seeds, left] = data.rho[choice.target][setting];
  const target = data.words[choice.target];
  describe(choice, { count, rho, low, high, n, seeds, left, target });

  const xs = data.x[setting];
  const ys = data.y[choice.target]?.[choice.convolutions];
  const larger = data.larger[choice.convolutions];
  const points = (ys ?? []).map((y, i) => ({ x: xs[i], y, larger: larger[i] })).filter((point) => point.x !== null);
  document.getElementById("no-points").hidden = Boolean(ys);
  const line = data.line[subspace] ?? [];
  document.getElementById("no-line").hidden = line.length > 0;
  const present = line.length && count !== null && rho !== null ? [{ name: target, count, rho, low, high }] : [];
  views.points?.data("points", points).run();
  if (views.line && drawn !== subspace) {
    views.line.data("line", line.map(([name, masked, count, rho]) => ({ name, masked, count, rho })));
    drawn = subspace;
  }
  views.line?.data("choice", present).run();
}

function describe(choice, { count, rho, low, high, n, seeds, left, target }) {
  const method = data.methods[`${choice.alpha === "0" ? 0 : 1} ${choice.norm}`];
  const way = low > 0 ? "the right way" : high < 0 ? "backwards" : "neither way, within the interval";
  const score = `${method} ${choice.proxy.toUpperCase()}`;
  const interval = rho === null ? "" : ` [${signed(low)}, ${signed(high)}]`;
  const first = score[0].toUpperCase() + score.slice(1);
  document.getElementById("result").textContent = `${first} ranks ${way}: rho = ${rounded(rho)}${interval}`;
  const undefinedScores = left ? ` ${left} more cells have no finite score and are left out.` : "";
  document.getElementById("basis").textContent =
    `95 % interval over cells and seeds, n = ${n} cells, ${seeds} seeds. Target: ${target}.${undefinedScores}`;
  document.getElementById("counted").textContent =
    `Ring: the present choice, at rho ${rounded(count)} of the number of 3x3 convolutions and ${rounded(rho)} of the score.`;
  for (const name of ["alpha", "convolutions"]) {
    document.getElementById(`${name}-value`).textContent = choice[name];
    form.elements[name].setAttribute("aria-valuetext", choice[name]);
  }
  const summary = `${score}, ${choice.convolutions} convolutions, ${target}: rho ${rounded(rho)}${interval}, n = ${n} cells.`;
  document.getElementById("points").setAttribute("aria-label", `Scatter of accuracy rank over score rank. ${summary}`);
  document.getElementById("line").setAttribute("aria-label", `Score's rho over the 3x3 count's rho. ${summary}`);
}

function remember() {
  const choice = Object.keys(data.choices).map((name) => [name, chosen(form.elements[name])]);
  history.replaceState(null, "", `#${new URLSearchParams(choice)}`);
}

async function start() {
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const [text, soft] = [color("text"), color("rule")];
  const axis = { domainColor: text, gridColor: soft, labelColor: text, tickColor: text, titleColor: text, titleFontWeight: 400 };
  const config = {
    background: "transparent",
    font: "system-ui, sans-serif",
    axis: { ...axis, labelFontSize: 12, titleFontSize: 13, gridOpacity: 0.6 },
    legend: { labelColor: text, titleColor: text, labelFontSize: 12, titleFontSize: 13, titleFontWeight: 400 },
    range: { ordinal: data.shades[dark.matches ? "dark" : "light"], category: data.pair[dark.matches ? "dark" : "light"] },
    style: { ink: { stroke: text, color: text }, guide: { stroke: text, color: text } },
    view: { stroke: null },
  };
  for (const name of ["points", "line"]) {
    const options = { actions: false, ast: true, renderer: "svg", mode: "vega-lite", config };
    const { view } = await vegaEmbed(`#${name}`, data.charts[name], options);
    views[name]?.finalize();
    views[name] = view;
  }
  drawn = undefined;
  draw();
  document.documentElement.dataset.ready = "yes";
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", () => {
  message.textContent = "";
  draw();
  remember();
});
addEventListener("hashchange", () => show(read(location.hash.slice(1))));
dark.addEventListener("change", start);
show(read(location.hash.slice(1)));
start();
