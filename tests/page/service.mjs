// A real service in a directory of its own, which can be killed and started again at the same place.
import { spawn } from "node:child_process";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE_MS = 30_000;

// Asks again until there is an answer.
export async function until(what, condition) {
  const limit = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > limit) throw new Error(`${what}: not within ${PATIENCE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const RULES = `
version = 1
name = "the page's tests"
workspace = "/workspace"
environment = ["LANG"]

[protected]
directories = ["/etc", "/root", "/proc", "/sys", "/boot", "/dev", "/var/run", "/run"]
except = ["/dev/null"]

[operations]
write = "workspace"
delete = "workspace"

[[rule]]
name = "looking"
programs = ["ls", "cat", "grep", "head", "sort", "find", "wc"]

[[rule]]
name = "talking"
programs = ["echo", "printf", "seq"]

[[rule]]
name = "waiting"
programs = ["sleep"]
limits = { time_seconds = 40 }

[[rule]]
name = "changing"
programs = ["touch", "mkdir"]

[[rule]]
name = "history"
programs = ["git"]
subcommands = ["status", "log"]

[[rule]]
name = "no recursion"
effect = "deny"
programs = ["ls"]
options = { deny = ["-R"] }
reason = "it lists more than one means"
suggestion = "name the directory"
`;

export class Service {
  #process = null;
  #settings;

  // Starts a service.
  static async start(settings = {}) {
    const service = new Service();
    service.directory = await mkdtemp(join(tmpdir(), "portcullis-page-"));
    // Started by root, the service becomes another user, who must reach its data.
    await chmod(service.directory, 0o755);
    service.#settings = settings;
    await writeFile(join(service.directory, "rules.toml"), RULES);
    service.listen = "127.0.0.1:0";
    await service.start();
    service.listen = new URL(service.url).host;
    service.token = (await readFile(join(service.directory, "data", "token"), "utf8")).trim();
    return service;
  }

  async start() {
    const data = join(this.directory, "data");
    await rm(join(data, "url"), { force: true });
    let log = "";
    this.#process = spawn(process.env.PORTCULLIS_SERVER, [], {
      env: {
        PATH: "/usr/bin:/bin", PORTCULLIS_DATA_DIR: data, PORTCULLIS_LISTEN: this.listen,
        PORTCULLIS_RULEBOOK: join(this.directory, "rules.toml"), ...this.#settings,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process.stderr.on("data", (piece) => {
      log = (log + piece).slice(-4000);
    });
    this.url = await until("the service starts", async () => {
      if (this.#process.exitCode !== null) throw new Error(`the service ended: ${log}`);
      const url = await readFile(join(data, "url"), "utf8").catch(() => "");
      return url.trim() && (await fetch(`${url.trim()}/health`).then(() => url.trim(), () => null));
    });
  }

  // As a power cut does.
  async kill() {
    const gone = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGKILL");
    await gone;
  }

  async stop() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const gone = new Promise((resolve) => this.#process.once("exit", resolve));
      this.#process.kill("SIGTERM");
      await gone;
    }
    await rm(this.directory, { recursive: true, force: true });
  }

  // Asks the service itself, behind the page's back.
  async api(method, path, body) {
    const response = await fetch(this.url + path, {
      method, headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" }, body: body && JSON.stringify(body),
    });
    return response.json();
  }

  // Runs a line to its end.
  async run(command, more = {}) {
    const { executionId } = await this.api("POST", "/api/commands", { command, ...more });
    return until(`${command} ends`, async () => {
      const record = await this.api("GET", `/api/commands/${executionId}`);
      return record.status !== "scheduled" && record.status !== "running" ? record : null;
    });
  }
}
