// Draws each FILE.d2 beside this program as FILE.svg: `make drawings`. No network, no browser.
//
// One picture serves a light and a dark page: its colours ask the page (prefers-color-scheme), and its ground is its
// own, so that it stays legible where page and system disagree. The hash of what it was drawn from stands in it;
// tests/test_docs.py compares.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { D2 } from "@terrastruct/d2";

// The colours that the sources name, and what they are on a dark ground. D2 changes those of its theme alone.
const DARK = {
  "#dafbe1": "#12361f", // green: nothing was sent
  "#fff8c5": "#3d3108", // amber: nobody knows
  "#ddf4ff": "#0f2d4a", // blue: an answer
};
const SETTINGS = { layout: "elk", themeID: 1, darkThemeID: 200, pad: 12, noXMLTag: true };
// The theme's own dark colours that do not go with furo's ground and GitHub's: the ground, the boxes, the lines.
const DARK_THEME = { "fill-N7": "#131416", "fill-B5": "#262a30", "fill-B6": "#262a30", "fill-B4": "#262a30" };
const DARK_LINES = ["stroke-B1", "stroke-B2", "stroke-N1"];
const LINE = "#9aa4b2";
const SCALE = 0.8; // D2 writes in 16 pixels; beside a page's text 13 are enough

const folder = new URL("./", import.meta.url);
const rules = Object.entries(DARK).map(([light, dark]) => `[fill="${light}"]{fill:${dark}}`);
for (const [name, colour] of Object.entries(DARK_THEME)) rules.push(`.${name}{fill:${colour}!important}`);
for (const name of DARK_LINES) rules.push(`.${name}{stroke:${LINE}!important}`);
rules.push(`.fill-B1,.fill-B2{fill:${LINE}!important}`);
const style = `<style>@media (prefers-color-scheme: dark){${rules.join("")}}</style>`;
const d2 = new D2();

for (const file of readdirSync(folder).filter((name) => name.endsWith(".d2"))) {
  const source = readFileSync(new URL(file, folder), "utf8");
  const { diagram, renderOptions } = await d2.compile(source, SETTINGS);
  const svg = await d2.render(diagram, { ...renderOptions, ...SETTINGS, salt: file });
  const hash = createHash("sha256");
  for (const name of ["draw.mjs", "package.json", file]) hash.update(readFileSync(new URL(name, folder)));
  const note = `<!-- drawn by make drawings from ${file}, sha256 ${hash.digest("hex")} -->\n`;
  const [, width, height] = svg.match(/viewBox="0 0 (\d+) (\d+)"/);
  const size = `width="${Math.round(width * SCALE)}" height="${Math.round(height * SCALE)}"`;
  const drawn = svg.replace("<svg ", `<svg ${size} `).replace(/<\/svg>\s*$/, `${style}</svg>\n`);
  writeFileSync(new URL(file.replace(".d2", ".svg"), folder), note + drawn);
  console.log(`${file}: ${drawn.length} bytes`);
}
process.exit(0); // d2's worker would keep the program alive
