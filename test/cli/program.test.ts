/**
 * The program as its users have it: `dist/cli/main.js`, run as a process (build.ts builds it before).
 *
 * It takes real time, since it is a program; the tests wait for what it says and for its end, never for a while. Ports
 * are taken below those that the system gives to clients, three in a row, looked for before each use.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { strategyNames } from "../../src/cli/strategies.ts";
import { FantaTCP } from "../../src/fanta/index.ts";

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

const started = new Set<Program>();

afterAll(() => {
  for (const program of started) program.kill("SIGKILL");
});

/** The program, running. */
class Program {
  out = "";
  err = "";
  readonly child: ChildProcess;
  readonly #ended: Promise<unknown>;

  constructor(args: readonly string[], channel: boolean = false) {
    const options = ["ignore", "pipe", "pipe", ...(channel ? (["ipc"] as const) : [])] as const;
    this.child = spawn(process.execPath, [main, ...args], { stdio: [...options] });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.out += text));
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.err += text));
    this.#ended = once(this.child, "close");
    started.add(this);
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Resolves when it has said this, with what it has matched. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.out);
      if (found !== null) return found;
      const over = await Promise.race([
        once(this.child.stdout as NodeJS.ReadableStream, "data"),
        this.#ended.then(() => "over"),
      ]);
      if (over === "over" && !pattern.test(this.out))
        throw new Error(`it ended without saying ${pattern}: ${this.err}`);
    }
  }

  /** Resolves when it has ended, with its exit code, or else the signal it died of. */
  async end(): Promise<number | NodeJS.Signals | null> {
    await this.#ended;
    started.delete(this);
    return this.child.exitCode ?? this.child.signalCode;
  }
}

function start(...args: string[]): Program {
  return new Program(args);
}

/** Runs it to its end. */
async function run(...args: string[]): Promise<{ code: unknown; out: string; err: string }> {
  const program = start(...args);
  const code = await program.end();
  return { code, out: program.out, err: program.err };
}

async function serving(...args: string[]): Promise<{ server: Program; port: number }> {
  const server = start("fanta", "serve", "--port", "0", ...args);
  const [, port] = await server.says(/listening on 127\.0\.0\.1:(\d+)\n/);
  return { server, port: Number(port) };
}

async function listen(port: number): Promise<Server | undefined> {
  const server = createServer((socket) => socket.on("error", () => undefined).resume());
  return new Promise((resolve) => {
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

async function close(server: Server): Promise<void> {
  await new Promise((resolve) => server.close(resolve));
}

let nextPort = 20_000 + (process.pid % 1_000) * 10;

/** The first of three ports in a row that nobody listens on. */
async function threePorts(): Promise<number> {
  for (;;) {
    const port = nextPort;
    nextPort += 3;
    const servers = await Promise.all([port, port + 1, port + 2].map(listen));
    for (const server of servers) if (server !== undefined) await close(server);
    if (servers.every((server) => server !== undefined)) return port;
  }
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** Resolves when nobody listens on the three ports any more. Of servers that were left behind, never. */
async function allGone(port: number): Promise<void> {
  for (const each of [port, port + 1, port + 2]) while (await listens(each));
}

describe.concurrent("called wrongly, it says what is wrong in one line and ends with 2", () => {
  test.each([
    [["demo", "--seconds", "soon"], `--seconds takes a number from 1 to 3600, got "soon"`],
    [["demo", "--strategy", "best"], `--strategy takes one of ${strategyNames.join(", ")}, got "best"`],
    [["demo", "--colour"], `the flags are --seconds, --callers, --strategy, --port, --json; got "--colour"`],
    [["fanta", "serve", "--port", "65536"], `--port takes a whole number from 0 to 65535, got "65536"`],
  ])("%j", async (args, line) => {
    expect(await run(...args)).toEqual({ code: 2, out: "", err: `poolwarden: ${line}\n` });
  });

  test("when there is no such command, it says which there are", async () => {
    const { code, out, err } = await run("fanta", "sing");
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(/^poolwarden: there is no command "fanta sing"\n\nUsage:\n/);
  });
});

test("asked for help, it gives it, and ends with 0", async () => {
  const { code, out, err } = await run("fanta", "serve", "--help");
  expect({ code, err }).toEqual({ code: 0, err: "" });
  for (const command of ["demo", "fanta serve", "fanta request"]) expect(out).toContain(`\n  poolwarden ${command} [`);
});

describe("fanta", () => {
  test("request prints what serve answers", async () => {
    const { server, port } = await serving();
    expect(await run("fanta", "request", "--port", `${port}`, "PING")).toEqual({ code: 0, out: "PONG\n", err: "" });
    const text = "--as it is, ünïcode too";
    expect(await run("fanta", "request", "--port", `${port}`, "--", text)).toEqual({
      code: 0,
      out: `${text}\n`,
      err: "",
    });
    server.kill("SIGINT");
    expect(await server.end()).toBe(0);
  });

  test("serve, told to end, says goodbye to its clients and ends with 0 when they have gone", async () => {
    const { server, port } = await serving();
    const client = await FantaTCP.connect({ host: "127.0.0.1", port });
    expect(await client.request("PING")).toBe("PONG");
    server.kill("SIGTERM");
    expect(await client.process.exited).toBe("normal"); // As after a goaway; a connection that is cut is lost.
    expect(await server.end()).toBe(0);
    expect(server.err).toBe("");
  });

  test("serve ends when the program that started it over a channel has gone", async () => {
    const server = new Program(["fanta", "serve", "--port", "0"], true);
    await server.says(/listening on/);
    const exit = once(server.child, "exit"); // Node tells no "close" after a disconnect of ours.
    server.child.disconnect();
    expect(await exit).toEqual([0, null]);
    started.delete(server);
  });

  test("serve ends with 1 when its port is taken, and says so", async () => {
    const { server, port } = await serving();
    const { code, out, err } = await run("fanta", "serve", "--port", `${port}`);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toMatch(
      new RegExp(`^poolwarden: ERR_FANTA_LISTEN: cannot listen on 127.0.0.1:${port}. .*EADDRINUSE.*\n$`),
    );
    server.kill("SIGTERM");
    expect(await server.end()).toBe(0);
  });

  test("request ends with 1 when nobody serves, and says so", async () => {
    const port = await threePorts();
    const { code, out, err } = await run("fanta", "request", "--port", `${port}`, "PING");
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toMatch(/^poolwarden: ERR_FANTA_CONNECT: .*ECONNREFUSED.*\n$/);
  });

  test("request ends with 1 when no answer comes in its time", async () => {
    const silent = (await listen(await threePorts())) as Server;
    const { port } = silent.address() as { port: number };
    const { code, out, err } = await run("fanta", "request", "--port", `${port}`, "--timeout-ms", "50", "PING");
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toMatch(/^poolwarden: ERR_FANTA_TIMEOUT: .*\n$/);
    await close(silent);
  });
});

describe("the demo", () => {
  test("plays five phases, answers every request once and rightly, and ends with 0", async () => {
    const port = await threePorts();
    const { code, out, err } = await run("demo", "--json", "--seconds", "1", "--callers", "64", "--port", `${port}`);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    const result = JSON.parse(out) as {
      ok: boolean;
      faults: string[];
      requests: Record<"begun" | "settled" | "answered" | "wrong", number>;
      phases: (Record<"requests" | "answered" | "failed" | "wrong" | "reconnects" | "restarts", number> & {
        phase: string;
        failures: Record<string, number>;
      })[];
      tree: string[];
    };
    expect(result).toMatchObject({ ok: true, faults: [], requests: { settled: result.requests.begun, wrong: 0 } });
    expect(result.phases.map(({ phase }) => phase)).toEqual([
      "healthy",
      "killed",
      "back",
      "stalled",
      "rolling restart",
    ]);
    for (const phase of result.phases) {
      expect(phase).toMatchObject({ wrong: 0, restarts: 0 });
      expect(phase.answered).toBeGreaterThan(0);
      expect(phase.answered + phase.failed).toBe(phase.requests);
      expect(Object.values(phase.failures).reduce((sum, count) => sum + count, 0)).toBe(phase.failed);
    }
    const [healthy, , back, , rolling] = result.phases.map(({ reconnects }) => reconnects);
    expect(healthy).toBe(0);
    expect(back).toBeGreaterThanOrEqual(4);
    expect(rolling).toBeGreaterThanOrEqual(12);
    expect(result.tree.filter((line) => /connection \d+ <\d+>\s+to 127\.0\.0\.1:\d+, ready$/.test(line))).toHaveLength(
      12,
    );
    await allGone(port);
  });

  describe.concurrent("leaves no server behind", () => {
    test.each([
      ["SIGINT", /^4\/5 stalled/m, 130],
      ["SIGTERM", /^poolwarden: /, 143],
      ["SIGKILL", /^1\/5 healthy/m, "SIGKILL"],
    ] as const)("when it gets %s", async (signal, when, how) => {
      const port = await threePorts();
      const demo = start("demo", "--seconds", "1", "--callers", "1", "--port", `${port}`);
      await demo.says(when);
      demo.kill(signal);
      expect(await demo.end()).toBe(how);
      expect(demo.err).toBe("");
      expect(demo.out.split("\n").filter((line) => line.length > 80)).toEqual([]);
      expect(demo.out).not.toContain("\u001b");
      await allGone(port);
    });

    test("when nobody reads it any more", async () => {
      const port = await threePorts();
      const demo = start("demo", "--seconds", "1", "--callers", "1", "--port", `${port}`);
      await demo.says(/^poolwarden: /);
      demo.child.stdout?.destroy();
      expect(await demo.end()).toBe(141);
      expect(demo.err).toBe("");
      await allGone(port);
    });

    test("when one of its ports is taken: it says so and ends with 1", async () => {
      const port = await threePorts();
      const taken = (await listen(port + 1)) as Server;
      const { code, out, err } = await run("demo", "--port", `${port}`);
      expect({ code, out }).toEqual({ code: 1, out: "" });
      const [line, why] = err.split("\n");
      expect(line).toBe(
        `poolwarden demo: its servers could not listen on the ports ${port} to ${port + 2}. Give others with --port.`,
      );
      expect(why).toContain(`cannot listen on 127.0.0.1:${port + 1}`);
      await close(taken);
      await allGone(port);
    });

    test("when a server cannot come back: it says so and ends with 1", async () => {
      const port = await threePorts();
      const demo = start("demo", "--seconds", "1", "--callers", "1", "--port", `${port}`);
      await demo.says(/^2\/5 killed/m);
      let taken: Server | undefined;
      while (taken === undefined) taken = await listen(port + 1);
      expect(await demo.end()).toBe(1);
      expect(demo.err).toMatch(/^poolwarden demo: it could not be played to the end\.\n.*ERR_FANTA_LISTEN.*\n$/);
      await close(taken);
      await allGone(port);
    });
  });
});
