/**
 * Whether a program can end: with an idle dispatcher it does, with a request under way it does not.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Gate, later, serve1, serve2 } from "./http.ts";

const program = fileURLToPath(new URL("./http-program.ts", import.meta.url));

test.each([
  ["h1", "any"],
  ["h1", "balanced"],
  ["h2", "any"],
  ["h2", "balanced"],
])("a program with an idle dispatcher (%s, %s) ends, and not before its last answer", async (protocol, kind) => {
  const gate = new Gate();
  let asked = 0;
  const answer = async (end: (text: string) => unknown): Promise<void> => {
    if (++asked === 3) await gate.pass();
    end(`answer ${asked}`);
  };
  const { url } =
    protocol === "h2"
      ? await serve2((stream) =>
          answer((text) => {
            stream.respond({ ":status": 200 });
            stream.end(text);
          }),
        )
      : await serve1((_, response) => answer((text) => response.end(text)));
  const child = spawn(process.execPath, ["--import", "tsx", program, url, protocol, kind], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  later(() => child.kill("SIGKILL"));
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  await gate.reached;
  expect(child.exitCode).toBeNull();
  gate.open();
  const [code] = (await once(child, "exit")) as [number | null];
  expect([code, said]).toEqual([0, "answer 1\nanswer 2\nanswer 3\n"]);
});
