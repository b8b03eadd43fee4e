/**
 * What may be said about where requests go: addresses, endpoints, sources of them, an origin.
 */
import { describe, expect, test } from "vitest";
import { HttpDispatcher } from "../../src/adapters/http/index.ts";
import { ask, dispatcher, events, handler, serve1, until } from "./http.ts";

describe("an endpoint", () => {
  test.each(["ftp://127.0.0.1", "http://127.0.0.1/path", "http://127.0.0.1/?query", "http://", "127.0.0.1:port", "//"])(
    "that is %s is none, and is said to be before anything starts",
    async (endpoint) => {
      const wanted = { code: "ERR_OPTION", message: expect.stringContaining("10.0.0.1:8080") };
      await expect(HttpDispatcher.start({ endpoints: [endpoint] })).rejects.toMatchObject(wanted);
      await expect(HttpDispatcher.start({ endpoints: [{ id: endpoint }] })).rejects.toMatchObject(wanted);
    },
  );

  test("may be an object with a weight, beside others that are only addresses", async () => {
    const [one, two] = await Promise.all([1, 2].map((n) => serve1((_, response) => response.end(`${n}`))));
    const endpoints = [{ id: one?.url ?? "", weight: 2 }, two?.url ?? ""];
    const to = await dispatcher({ endpoints, connections: 1 });
    await to.ready({ min: 2 });
    const all = await Promise.all([ask(to, {}, handler("new")), ask(to, {}, handler("new"))]);
    expect(all.map((heard) => heard.body()).sort()).toEqual(["1", "2"]);
  });
});

test("a source that gives what is no set, or no address, leaves those that stood, and says so", async () => {
  const { url } = await serve1((_, response) => response.end("whole"));
  const changed = events("pool.endpointsChanged");
  const failed = events("connection.openFailed");
  let go!: () => void;
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  async function* sets(): AsyncIterable<never> {
    yield [url] as never;
    await gate;
    yield "no set" as never;
    yield [{ id: url }, "ftp://127.0.0.1"] as never;
    await new Promise(() => undefined);
  }
  const to = await dispatcher({ endpoints: sets(), connections: 1 });
  await to.ready();
  go();
  await until(() => failed.length > 0);
  expect(failed[0]?.error).toMatchObject({ code: "ERR_OPTION" });
  const errors = changed.flatMap(({ error }) => (error === undefined ? [] : [error]));
  expect(errors.map((error) => (error as { code?: string }).code)).toEqual(["ERR_OPTION"]);
  expect((await ask(to, {}, handler("new"))).body()).toBe("whole");
});

test("an origin without endpoints that serve it is a mistake", async () => {
  await expect(HttpDispatcher.start({ origin: "https://api.test" })).rejects.toMatchObject({
    code: "ERR_OPTION",
    message: expect.stringContaining("origin"),
  });
});
