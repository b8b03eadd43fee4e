/**
 * nginx, as an upstream: answers every path with the text it was given.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { installed, type Program, start } from "./program.ts";

export const nginxInstalled = (): boolean => installed("nginx", "nginx-light");

export interface Nginx extends Program {
  readonly url: string;
}

/** @param keepAliveRequests After how many requests it closes a connection. */
export async function startNginx(options: { text: string; keepAliveRequests?: number; port?: number }): Promise<Nginx> {
  const program = await start({
    program: "nginx",
    ...(options.port !== undefined && { port: options.port }),
    arguments: (port, folder) => {
      mkdirSync(join(folder, "temporary"));
      const { text, keepAliveRequests = 1_000_000 } = options;
      writeFileSync(join(folder, "nginx.conf"), configuration(port, folder, text, keepAliveRequests));
      return ["-p", folder, "-e", join(folder, "error.log"), "-c", join(folder, "nginx.conf")];
    },
  });
  return { ...program, url: `http://127.0.0.1:${program.port}` };
}

function configuration(port: number, folder: string, text: string, keepAliveRequests: number): string {
  const kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const temporary = kinds.map((kind) => `  ${kind}_temp_path ${folder}/temporary/${kind};`).join("\n");
  return `daemon off;
master_process off;
pid ${folder}/nginx.pid;
events { worker_connections 1024; }
http {
${temporary}
  access_log off;
  keepalive_requests ${keepAliveRequests};
  server {
    listen 127.0.0.1:${port};
    location / { default_type text/plain; return 200 "${text}"; }
  }
}
`;
}
