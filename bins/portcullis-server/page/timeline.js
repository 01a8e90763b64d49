// Draws when executions ran and for how long: an overview of all that are listed, and a bar for each.
import { executionLink } from "./api.js";
import { el, svg } from "./dom.js";
import { duration, fullMoment, moment, ranFor, statusTitle } from "./words.js";

const LANES = 5;
const LANE = 9;
const BAR = 6;
// A bar is never narrower than this, or it is not seen.
const LEAST = 3;

const begin = (record) => Date.parse(record.acceptedAt);
const end = (record, now) => (record.endTime ? Date.parse(record.endTime) : now);

// The overview. The list beneath says the same in words, so who listens is spared it.
export function overview(records, width, now = Date.now()) {
  const from = Math.min(...records.map(begin));
  const to = Math.max(...records.map((record) => end(record, now)), from + 1000);
  const x = (time) => ((time - from) / (to - from)) * (width - LEAST);
  const lanes = [];
  const bars = [...records].reverse().map((record) => {
    const [left, right] = [x(begin(record)), Math.max(x(begin(record)) + LEAST, x(end(record, now)))];
    let lane = lanes.findIndex((until) => until + 1 < left);
    if (lane < 0) lane = Math.min(lanes.length, LANES - 1);
    lanes[lane] = right;
    return svg(
      "a", { href: executionLink(record.executionId), tabindex: "-1" },
      svg("title", {}, `${record.command.slice(0, 80)} — ${statusTitle(record.status)}, ${fullMoment(record.acceptedAt)}`),
      svg("rect", { class: record.status, x: left.toFixed(1), y: lane * LANE + 2, width: (right - left).toFixed(1), height: BAR, rx: 1.5 }),
    );
  });
  const height = Math.max(1, lanes.length) * LANE + 3;
  return el(
    "figure", { class: "overview", "aria-hidden": "true" },
    svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, focusable: "false" }, svg("line", { class: "axis", x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 }), bars),
    el("figcaption", {}, el("span", {}, moment(new Date(from).toISOString())), el("span", {}, duration(to - from)), el("span", {}, moment(new Date(to).toISOString()))),
  );
}

// One execution's time: waited, then ran, as parts of the longest that is listed.
export function bar(record, longest, now = Date.now()) {
  const ran = ranFor(record, now);
  const waited = (record.startTime ? Date.parse(record.startTime) : end(record, now)) - begin(record);
  const width = (ms) => `${(Math.max(0, ms) / longest) * 100}%`;
  const [before, during] = [el("span", { class: "waited" }), el("span", { class: `ran ${record.status}` })];
  before.style.setProperty("width", width(waited));
  during.style.setProperty("width", width(ran ?? 0));
  return el("span", { class: "bar", "aria-hidden": "true" }, before, ran !== null && during);
}

export const whole = (record, now = Date.now()) => end(record, now) - begin(record);
