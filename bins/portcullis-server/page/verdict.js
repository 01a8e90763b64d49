// Shows a verdict: beneath the line as one types, and where a submission was refused.
import { el } from "./dom.js";
import { fromBytes, hiddenIn, revealed, revealedLine } from "./text.js";
import { plural } from "./words.js";

// All places of a denial in its line, in UTF-16 units: [from, to], ordered.
export function places(line, denial) {
  const all = [denial, ...(denial.further ?? [])];
  const units = fromBytes(line, all.flatMap(({ span }) => [span.start, span.end]));
  const pairs = all.map((_, at) => [units[2 * at], units[2 * at + 1]]);
  return pairs.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
}

// Cuts a line at the borders of these places and returns its nodes, the refused parts in <mark>. Places that overlap become one.
export function marked(line, pairs) {
  const nodes = [];
  let from = 0;
  for (const [begin, end] of pairs) {
    if (begin < from) continue;
    // What is missing, or cannot be seen, has no width: the caret stands where it would be.
    const nothing = /^[\p{Cf}\p{Mn}]*$/u.test(line.slice(begin, end));
    nodes.push(line.slice(from, begin), el("mark", { class: nothing ? "refused nothing" : "refused" }, line.slice(begin, end)));
    from = end;
  }
  nodes.push(line.slice(from));
  return nodes;
}

const badge = (kind, mark, title) => el("p", { class: `badge ${kind}` }, el("span", { class: "sign", "aria-hidden": "true" }, mark), title);

const list = (names) => names.flatMap((name, at) => [at > 0 && ", ", el("code", {}, revealed(name))]);

// What a permitted line may do, in one row.
export function permitted({ programs = [], rules = [], added = [] }) {
  return [
    badge("good", "✓", "Allowed"),
    el(
      "p", { class: "reason" },
      list(programs), rules.length > 0 && [" by ", rules.length === 1 ? "rule " : "rules ", list(rules)],
      added.length > 0 && ". Portcullis adds options to ",
      added.length > 0 && list([...new Set(added.map(({ program }) => program))]),
      added.length > 0 && " so that it does no more than its words say",
    ),
  ];
}

// Why a line is refused, where, and what to do instead.
export function denied(line, denial) {
  const further = denial.further ?? [];
  return [badge("bad", "✕", "Refused"), reasons(line, denial), ...further.map((one) => el("div", { class: "further" }, reasons(line, one)))];
}

function reasons(line, { message, suggestion, rule, code, effects = [], span }) {
  const [from, to] = fromBytes(line, [span.start, span.end]);
  const [first, last] = [characters(line, from) + 1, characters(line, to)];
  const where = last <= first ? `character ${first}` : `characters ${first} to ${last}`;
  const row = (title, content) => content && [el("dt", {}, title), el("dd", {}, content)];
  return [
    el("p", { class: "reason" }, quoted(message)),
    el(
      "dl", { class: "because" },
      row("instead", suggestion && quoted(suggestion)),
      row("rule", rule && [el("code", {}, revealed(rule.name)), rule.line && ` (line ${rule.line} of the rulebook)`]),
      row("it would", effects.length > 0 && effects.slice(0, 6).flatMap(({ kind, subject }, at) => [at > 0 && "; ", `${kind} `, revealed(subject)]).concat(
        effects.length > 6 ? `; and ${effects.length - 6} more` : [])),
      row("where", where),
      row("code", el("code", {}, code)),
    ),
  ];
}

const characters = (line, unit) => Array.from(line.slice(0, unit)).length;

// The service quotes what stands in a line in backquotes.
export function quoted(text) {
  return text.split("`").map((part, at) => (at % 2 === 1 ? el("code", {}, revealed(part)) : revealed(part))).flat();
}

// What is wrong with a request that is no denial.
export function refusedRequest(problem, retry) {
  return [
    badge("warn", "!", problem.title),
    el("p", { class: "reason" }, quoted(problem.message)),
    problem.errors.length > 0 && el("ul", {}, problem.errors.map(({ pointer, detail }) => el("li", {}, el("code", {}, revealed(pointer)), " ", quoted(detail)))),
    retry,
  ].filter(Boolean);
}

// Says that a line holds what cannot be seen, since it may not be what it looks like.
export function unseenNotice(line) {
  const names = hiddenIn(line);
  if (names.length === 0) return null;
  return el(
    "div", { class: "unseen-notice" },
    el("p", {}, `The line holds ${plural(names.length, "kind")} of characters that cannot be seen. The service reads:`),
    el("p", { class: "spelled" }, el("code", {}, revealedLine(line))),
  );
}
