/**
 * What keeps a program alive, seen on real programs: each runs until nothing holds it any more, and says what it did.
 *
 * The peer is here and answers when the test says so. Whether something holds a program is asked of Node itself
 * (`getActiveResourcesInfo` lists what does), so no test waits to see whether a program is still there.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { FantaServer } from "../../src/fanta/index.ts";

const index = fileURLToPath(new URL("../../src/fanta/index.ts", import.meta.url));

/** Runs a program in which `port` is the server's; yields what it prints, line by line, and its exit code at the end. */
async function* program(port: number, code: string): AsyncGenerator<string> {
  const script = `
    const { FantaTCP, FantaPool } = await import(${JSON.stringify(index)});
    const port = ${port}, host = "127.0.0.1";
    // Standard output is a pipe of its own, and not what this is about.
    const holds = () => process.getActiveResourcesInfo().filter((each) => !/Pipe|TTY|Immediate/.test(each)).sort();
    const turns = async () => { for (let n = 0; n < 20; n++) await new Promise((next) => setImmediate(next)); };
    ${code}
  `;
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  try {
    for await (const line of createInterface({ input: child.stdout })) yield line;
    const [code] = (await exited) as [number | null];
    yield `exit ${code}`;
  } finally {
    child.kill("SIGKILL");
  }
}

async function lines(all: AsyncIterable<string>): Promise<string[]> {
  const said: string[] = [];
  for await (const line of all) said.push(line);
  return said;
}

/** A server that answers when the test lets it. */
async function held(): Promise<{ server: FantaServer; release: () => void }> {
  let release!: () => void;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const server = await FantaServer.listen({
    handler: async (text) => {
      await gate;
      return `re: ${text}`;
    },
  });
  return { server, release };
}

describe("a program", () => {
  test("is let go by an idle connection, whose requests are answered", async () => {
    const server = await FantaServer.listen({ handler: (text) => `re: ${text}` });
    const said = await lines(
      program(
        server.port,
        `
        const fanta = await FantaTCP.connect({ host, port });
        await turns();
        console.log("idle", ...holds());
        console.log(await fanta.request("x"));
        await fanta.ping();
        await turns();
        console.log("answered", ...holds(), fanta.open);
        `,
      ),
    );
    expect(said).toEqual(["idle", "re: x", "answered true", "exit 0"]);
    await server.close();
  });

  test("is held by a request that somebody waits for, until it is answered", async () => {
    const { server, release } = await held();
    const said: string[] = [];
    const running = program(
      server.port,
      `
      const fanta = await FantaTCP.connect({ host, port });
      // Without a time limit, so that it is the socket that holds.
      fanta.request("x", { timeoutMs: Infinity }).then((answer) => console.log(answer));
      await turns();
      console.log("waits", ...holds());
      `,
    );
    for await (const line of running) {
      said.push(line);
      if (line.startsWith("waits")) release();
    }
    expect(said).toEqual(["waits TCPSocketWrap", "re: x", "exit 0"]);
    await server.close();
  });

  test("is let go by a request that its caller has given up, although the server works on it still", async () => {
    const { server, release } = await held();
    const said = await lines(
      program(
        server.port,
        `
        const fanta = await FantaTCP.connect({ host, port });
        const caller = new AbortController();
        const asked = fanta.request("x", { signal: caller.signal }).catch((error) => error.message);
        await turns();
        caller.abort(new Error("enough"));
        console.log(await asked, ...holds(), fanta.inFlight);
        `,
      ),
    );
    expect(said).toEqual(["enough 1", "exit 0"]);
    release();
    await server.close();
  });

  test("is held by a connection that closes, until it is closed", async () => {
    const { server, release } = await held();
    const said: string[] = [];
    const running = program(
      server.port,
      `
      const fanta = await FantaTCP.connect({ host, port });
      fanta.request("x", { timeoutMs: Infinity }).then((answer) => console.log(answer));
      fanta.close().then(() => console.log("closed"));
      await turns();
      console.log("closing", ...holds());
      `,
    );
    for await (const line of running) {
      said.push(line);
      if (line.startsWith("closing")) release();
    }
    expect(said).toEqual(["closing TCPSocketWrap Timeout", "re: x", "closed", "exit 0"]);
    await server.close();
  });

  test("is let go by an idle pool", async () => {
    const server = await FantaServer.listen({ handler: (text) => `re: ${text}` });
    const said = await lines(
      program(
        server.port,
        `
        const pool = await FantaPool.start({ host, port, size: 3 });
        await pool.ready({ min: 3 });
        console.log(await pool.request("x"));
        await turns();
        console.log("idle", ...holds(), pool.stats().ready);
        `,
      ),
    );
    expect(said).toEqual(["re: x", "idle 3", "exit 0"]);
    await server.close();
  });
});
