/**
 * The TCP sockets that this program has, listening ones included: as Linux knows them. Node shows only those that keep
 * the program alive, and an idle connection of ours does not.
 */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

export function sockets(): number {
  const tables = ["tcp", "tcp6"].map((table) => readFileSync(`/proc/self/net/${table}`, "utf8"));
  const tcp = new Set(
    tables
      .join("\n")
      .split("\n")
      .map((line) => line.trim().split(/\s+/)[9]),
  );
  return readdirSync("/proc/self/fd").filter((file) => tcp.has(inodeOf(file))).length;
}

/** Of a socket that is open here; of anything else, or what has just been closed, nothing that a table has. */
function inodeOf(file: string): string {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${file}`))?.[1] ?? "none";
  } catch {
    return "none";
  }
}
