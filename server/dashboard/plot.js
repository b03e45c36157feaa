// A small line that moves: the last values of one figure, drawn as SVG.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 160;
const HEIGHT = 36;

export function sparkline(label, most = 60) {
  const values = [];
  const line = document.createElementNS(SVG, "polyline");
  const area = document.createElementNS(SVG, "polygon");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.append(area, line);

  function push(value) {
    values.push(value);
    if (values.length > most) values.shift();
    const top = Math.max(...values, 1e-9);
    const step = WIDTH / Math.max(1, most - 1);
    const from = WIDTH - step * (values.length - 1);
    const points = values.map((one, index) => `${(from + index * step).toFixed(1)},${(HEIGHT - 2 - (one / top) * (HEIGHT - 6)).toFixed(1)}`);
    line.setAttribute("points", points.join(" "));
    area.setAttribute("points", `${from.toFixed(1)},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`);
  }

  return { element: svg, push };
}
