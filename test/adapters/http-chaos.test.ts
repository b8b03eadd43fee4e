/**
 * Everything at once: servers that answer, dawdle, cut, refuse and go away, callers that give up, all by seeded chance.
 *
 * What must hold is the same at each seed: every request has one beginning and one end, what is answered is answered to
 * the one who asked, and when nobody asks any more everything is as it was at the start.
 */
import { constants } from "node:http2";
import { expect, test } from "vitest";
import { seededRandom } from "../../src/sim/random.ts";
import { ask, bodyOf, dispatcher, type Heard, handler, serve1, serve2, shapes, turn, until } from "./http.ts";

const seeds = [1, 2, 3, 4, 5];
const scenes = (["http/1.1", "h2"] as const).flatMap((protocol) => seeds.map((seed) => [protocol, seed] as const));

test.each(scenes)("over %s, seed %d: every request ends once, and as it was answered", async (protocol, seed) => {
  const random = seededRandom(seed);
  const below = (sides: number): number => Math.floor(random() * sides);
  const dawdle = async (): Promise<void> => {
    for (let turns = below(20); turns > 0; turns--) await turn();
  };

  /** One request in forty fares badly, each in one of these ways. */
  const serveH2 = () =>
    serve2(
      async (stream, headers) => {
        const fate = below(160);
        await turn(); // Node 20's server spoils its memory if a session is destroyed in the event that brings a stream.
        if (fate === 0) return stream.close(constants.NGHTTP2_REFUSED_STREAM);
        if (fate === 1) return stream.session?.destroy();
        if (fate === 2) return stream.destroy(new Error("broken"));
        if (fate === 3) stream.session?.close();
        const { length } = await bodyOf(stream);
        await dawdle();
        if (stream.destroyed) return undefined;
        stream.respond({ ":status": below(20) === 0 ? 503 : 200 });
        if (fate === 4) return stream.write("half", () => stream.session?.destroy());
        stream.write(`${headers[":path"]} `);
        await dawdle();
        return stream.destroyed || stream.end(`${length}`);
      },
      { maxConcurrentStreams: 1 + below(4) },
    );
  const serveH1 = () =>
    serve1(async (request, response) => {
      const fate = below(160);
      if (fate === 0) return request.socket.destroy();
      if (fate === 1) response.setHeader("connection", "close");
      if (fate === 2) return request.socket.resetAndDestroy();
      const { length } = await bodyOf(request).catch(() => Buffer.alloc(0));
      await dawdle();
      response.writeHead(below(20) === 0 ? 503 : 200);
      if (fate === 3) return response.write("half", () => request.socket.destroy());
      response.write(`${request.url} `);
      await dawdle();
      return response.end(`${length}`);
    });

  const servers = await Promise.all([0, 1, 2].map(() => (protocol === "h2" ? serveH2() : serveH1())));
  const to = await dispatcher({
    endpoints: servers.map(({ url }) => url),
    connections: 2,
    useH2c: protocol === "h2",
    pipelining: 1 + (seed % 2),
    backoff: { minMs: 1, maxMs: 5 },
  });
  const all: { heard: Heard; path: string; length: number }[] = [];
  const caller = async (): Promise<void> => {
    for (let n = 0; n < 15; n++) {
      const giveUpAt = below(12);
      const heard = handler(shapes[below(2)] ?? "new", (call, self) => {
        if (["start", "headers 200", "data"].indexOf(call) === giveUpAt) self.abort(new Error("given up"));
      });
      const path = `/${all.length}`;
      const length = below(3) * 1_000;
      all.push({ heard, path, length });
      async function* pieces(): AsyncIterable<Uint8Array> {
        await dawdle();
        yield Buffer.alloc(length);
      }
      const options = [
        { method: "GET" },
        { method: "PUT", body: Buffer.alloc(length) },
        { method: "POST", body: Buffer.alloc(length) },
        { method: "POST", body: pieces() },
      ][below(4)];
      const asked = ask(to, { path, ...options }, heard);
      if (below(10) === 0) {
        await dawdle();
        heard.abort(new Error("given up"));
      }
      await asked;
    }
  };
  await Promise.all(Array.from({ length: 20 }, caller));

  let answered = 0;
  for (const { heard, path, length } of all) {
    const ends = heard.calls.filter((call) => call === "complete" || call === "error");
    expect(ends, path).toHaveLength(1);
    expect(heard.calls.filter((call) => call === "start")).toHaveLength(1);
    expect(heard.calls.indexOf(ends[0] ?? ""), path).toBe(heard.calls.length - 1);
    if (ends[0] !== "complete") continue;
    answered++;
    expect([`${path} ${length}`, `${path} 0`]).toContain(heard.body());
  }
  expect(answered).toBeGreaterThan(all.length / 2);
  const [pool] = to.pools().values();
  await until(() => pool?.stats().inFlight === 0 && pool.stats().waiting === 0, "nothing is under way");
  await until(() => pool?.stats().ready === 6 && pool.stats().size === 6, "all connections are back");
  expect(pool?.stats()).toMatchObject({ idle: 6, used: 0, opening: 0, draining: 0, fatal: 0 });
  for (const server of servers) {
    if ("open" in server) await until(() => server.open() === 0, "the server knows of no stream any more");
  }
});
