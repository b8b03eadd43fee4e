/**
 * A rolling restart over real sockets: ten servers, each an OS process, are asked to go one after another and come back
 * on the same port, while a hundred thousand requests go through one pool. Nothing may fail, idempotent or not.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { FantaPool } from "../../src/fanta/index.ts";

const requests = 100_000;
const callers = 100;
const servers = 10;
const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const running = new Set<ChildProcess>();

afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
});

async function serve(port: number): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(process.execPath, ["--import", "tsx", main, "fanta", "serve", "--port", String(port)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  return { child, port: Number(/:(\d+)/.exec(line.toString())?.[1]) };
}

test("100,000 requests, ten servers restarted one by one: none fails", { timeout: 120_000 }, async () => {
  const up = await Promise.all(Array.from({ length: servers }, () => serve(0)));
  const pool = await FantaPool.start({
    endpoints: up.map(({ port }) => ({ id: `127.0.0.1:${port}` })),
    size: 2,
    backoff: { minMs: 20, maxMs: 200 },
  });
  await pool.ready({ min: 2 * servers });

  let next = 0;
  let restarted = 0;
  const failures: unknown[] = [];
  // A share of the requests goes through each restart. When it is used up the callers wait, and leave the processor to
  // the server that starts.
  let come = (): void => undefined;
  let back = Promise.resolve();
  const caller = async (): Promise<void> => {
    for (;;) {
      while (next >= ((restarted + 1) * requests) / servers && restarted < servers) await back;
      if (next >= requests) return;
      const text = `request ${next++}`;
      await pool.request(text).then(
        (answer) => {
          if (answer !== text) failures.push(new Error(`${text} was answered with ${answer}`));
        },
        (error: unknown) => failures.push(error),
      );
    }
  };
  const restarts = async (): Promise<void> => {
    for (const [at, { child, port }] of up.entries()) {
      back = new Promise((resolve) => {
        come = resolve;
      });
      const ended = once(child, "exit");
      child.kill("SIGTERM"); // Says goaway, answers what it was asked, and ends.
      await ended;
      up[at] = await serve(port);
      restarted++;
      come();
    }
  };
  await Promise.all([restarts(), ...Array.from({ length: callers }, caller)]);

  console.log(`${next} requests, ${restarted} servers restarted: ${failures.length} failed`);
  expect(failures).toEqual([]);
  expect([next, restarted]).toEqual([requests, servers]);
  const { inFlight, waiting, totals } = pool.stats();
  expect({ inFlight, waiting, succeeded: totals.succeeded }).toEqual({ inFlight: 0, waiting: 0, succeeded: next });
  expect(await pool.close()).toEqual({ finished: 0, aborted: 0 });
  for (const { child } of up) child.kill("SIGTERM");
});
