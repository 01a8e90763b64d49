// What is known of an execution beside its output: times, what it used of its limits, and what was in force around it.
import { el } from "./dom.js";
import { revealed } from "./text.js";
import { bytes, duration, ended, fullMoment, plural, ranFor } from "./words.js";

// A quantity beside its limit, as text and as a bar.
function used(title, value, limit, write, missing = "not measured") {
  const share = value === null ? 0 : Math.min(1, value / limit);
  const fill = el("span", { class: share >= 0.9 ? "fill high" : "fill" });
  fill.style.setProperty("width", `${share === 0 ? 0 : Math.max(1.5, share * 100)}%`);
  return el(
    "div", { class: "used" },
    el("dt", {}, title),
    el("dd", {}, el("span", { class: "amount" }, value === null ? missing : write(value)), el("span", { class: "limit" }, `${value === null && missing === "" ? "up to" : " of"} ${write(limit)}`)),
    el("dd", { class: "bar", "aria-hidden": "true" }, fill),
  );
}

// Four bars: time, CPU, memory, output. What is known only at the end is told then.
export function usage(record) {
  const { limits } = record;
  const over = ended(record.status);
  const known = (value) => (over ? (value ?? null) : null);
  const missing = over ? "not measured" : "";
  return el(
    "dl", { class: "usage" },
    used("Time", ranFor(record) ?? 0, limits.wallTimeMs, duration),
    used("CPU time", known(record.usage?.cpuTimeMs), limits.cpuTimeMs, duration, missing),
    used("Memory at most", known(record.usage?.peakMemoryBytes), limits.memoryBytes, bytes, missing),
    used("Output", record.outputBytes, limits.outputBytes, bytes),
  );
}

const row = (title, content) => content && el("div", { class: "fact" }, el("dt", {}, title), el("dd", {}, content));

const time = (text) => text && el("time", { datetime: text }, fullMoment(text));

export function facts(record) {
  const { limits, confinement } = record;
  const waited = record.startTime && Date.parse(record.startTime) - Date.parse(record.acceptedAt);
  return el(
    "dl", { class: "facts" },
    row("Accepted", time(record.acceptedAt)),
    row("Waited", waited !== null && duration(Math.max(0, waited))),
    row("Started", time(record.startTime)),
    row("Ended", time(record.endTime)),
    row("User", revealed(record.user)),
    row("Programs", record.programs.length > 0 && record.programs.flatMap((name, at) => [at > 0 && ", ", el("code", {}, revealed(name))])),
    row("Rules", record.rules.length > 0 && record.rules.flatMap((name, at) => [at > 0 && ", ", el("code", {}, revealed(name))])),
    row("Confinement", confinement && [
      el("strong", {}, confinement.level),
      confinement.landlockAbi !== null && `, Landlock ABI ${confinement.landlockAbi}`,
      confinement.cgroup && `, cgroup ${confinement.cgroup}`,
      confinement.weaker.length > 0 && el("ul", {}, confinement.weaker.map((what) => el("li", {}, what))),
    ]),
    row("Further limits", `${plural(limits.processes, "process", "processes")}, ${plural(limits.openFiles, "open file")}, files of ${bytes(limits.fileSizeBytes)}, ${bytes(limits.diskBytes)} of disk, ${duration(limits.gracePeriodMs)} of grace`),
    row("Id", el("code", { class: "id" }, record.executionId)),
  );
}
