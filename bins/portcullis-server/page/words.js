// Writes quantities, times and the service's words for people.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : trimmed(value)} ${UNITS[unit]}`;
}

const trimmed = (value) => value.toFixed(1).replace(/\.0$/, "");

// Writes milliseconds as a person would: 4 ms, 1.3 s, 2 min 5 s, 3 h 10 min.
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${trimmed(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return hours > 0 ? `${days} d ${hours} h` : `${days} d`;
  if (hours > 0) return minutes > 0 ? `${hours} h ${minutes} min` : `${hours} h`;
  return seconds % 60 > 0 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hour12: false });

// Writes a moment in the browser's time zone; the day is left out where it is today.
export function moment(text, now = new Date()) {
  const date = new Date(text);
  const clock = CLOCK.format(date);
  return date.toDateString() === now.toDateString() ? clock : `${DAY.format(date)}, ${clock}`;
}

export const fullMoment = (text) => FULL.format(new Date(text));

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

export const ended = (status) => status !== "scheduled" && status !== "running";

export const STATUSES = ["scheduled", "running", "completed", "failed", "cancelled", "timeout", "lost"];

const TITLES = {
  scheduled: "Waiting", running: "Running", completed: "Completed", failed: "Failed", cancelled: "Cancelled",
  timeout: "Out of time", lost: "Lost",
};

export const statusTitle = (status) => TITLES[status] ?? status;

const REASONS = {
  cpu_limit: "its limit of CPU time ended it", memory_limit: "its limit of memory ended it",
  process_limit: "its limit of processes ended it", output_limit: "its limit of output ended it",
  file_size_limit: "its limit of file size ended it", start_failed: "no process of it ever ran",
  interrupted: "the service ended before it was started", shutdown: "the service shut down while it ran",
  time_limit: "its time was over", cancelled: "cancelled by its user",
  service_died: "the service died while it ran: what it had done is not known, and it is not run again",
};

// Says how an execution ended, in a few words.
export function outcome(record) {
  if (record.reason === "exit") return `exit code ${record.exitCode}`;
  if (record.reason === "signal") return `ended by signal ${record.signal}`;
  return REASONS[record.reason] ?? record.reason ?? "";
}

// How long it ran: as measured, or by the service's clock, or until now.
export function ranFor(record, now = Date.now()) {
  if (record.usage) return record.usage.wallTimeMs;
  if (!record.startTime) return null;
  return Math.max(0, (record.endTime ? Date.parse(record.endTime) : now) - Date.parse(record.startTime));
}
