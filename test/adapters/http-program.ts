/**
 * A program that makes a few requests and then does nothing: it ends by itself, though it has closed nothing.
 *
 *     node --import tsx http-program.ts <url> h1|h2 any|balanced
 */
import { request } from "undici";
import { HttpDispatcher } from "../../src/adapters/http/index.ts";

const [url = "", protocol, kind] = process.argv.slice(2);
const dispatcher = await HttpDispatcher.start({
  useH2c: protocol === "h2",
  connections: 2,
  ...(kind === "balanced" ? { endpoints: [new URL(url).origin] } : {}),
});
await dispatcher.ready();
for (let n = 0; n < 3; n++) {
  const { body } = await request(url, { dispatcher });
  console.log(await body.text());
}
