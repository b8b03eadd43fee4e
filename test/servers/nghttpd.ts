/**
 * nghttpd, the HTTP/2 server of nghttp2: serves files without TLS, and allows as many streams as it is told.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { installed, type Program, start } from "./program.ts";

export const nghttpdInstalled = (): boolean => installed("nghttpd", "nghttp2-server");

export interface Nghttpd extends Program {
  readonly url: string;
  /** What it serves as `/hello.txt`. */
  readonly content: string;
}

export async function startNghttpd(options: { maxConcurrentStreams: number; port?: number }): Promise<Nghttpd> {
  const content = "hello from nghttpd\n";
  const program = await start({
    program: "nghttpd",
    ...(options.port !== undefined && { port: options.port }),
    arguments: (port, folder) => {
      writeFileSync(join(folder, "hello.txt"), content);
      const limit = String(options.maxConcurrentStreams);
      return ["--no-tls", "-d", folder, "-m", limit, "--address=127.0.0.1", String(port)];
    },
  });
  return { ...program, content, url: `http://127.0.0.1:${program.port}/hello.txt` };
}
