/**
 * The architecture, as tests: layers, doors, and where the clock may be read.
 *
 * Each rule is a function from files to a finding: what is wrong, and how many things it looked at. A rule that looked
 * at nothing fails, since a green check over no files tells nobody anything. And each rule is shown a violation that we
 * planted, so that we know it is awake.
 *
 * The rules read text, not syntax trees. Comments, strings and regular expressions are taken out first; that is enough
 * for code that the formatter has laid out, and the linter holds the rule on clocks a second time with a real parser.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

type File = readonly [path: string, text: string];
interface Finding {
  readonly wrong: readonly string[];
  /** How many imports, statements, links or files the rule judged. */
  readonly seen: number;
}

/** Lowest first. A file may import what stands on a lower row; never a neighbour on its own row, never upwards. */
const rows = [
  ["telemetry"],
  ["errors.ts"],
  ["options.ts"],
  ["runtime"],
  ["process"],
  ["supervisor", "registry"],
  ["connection", "multiplex"],
  ["pool"],
  ["routing", "checkout"],
  ["index.ts"], // The root entry gives away all that is below it, and no protocol.
  ["fanta", "adapters", "discovery"],
  ["observer", "opentelemetry"],
  ["sim"], // May drive everything; only the cli, tests, benchmarks and examples may import it.
  ["cli"],
];
/** An adapter may import its own optional peer, whose classes it extends or makes, and nobody else. */
const peers: readonly (readonly [folder: string, peer: string])[] = [
  ["src/adapters/http/", "undici"],
  ["src/adapters/postgres/", "pg"],
];
const rowOf = new Map(rows.flatMap((places, row) => places.map((place) => [place, row] as const)));

const root = fileURLToPath(new URL("..", import.meta.url));
const files = read(root);
const manifest = JSON.parse(readFileSync(posix.join(root, "package.json"), "utf8")) as Record<string, object>;
const optionalPeers = new Set(Object.keys(manifest["peerDependenciesMeta"] ?? {}));
const sources = files.filter(([path]) => path.startsWith("src/"));

describe("imports", () => {
  test("point down", () => clean(layers(sources)));

  test.each([
    ["a neighbour", "src/supervisor/child.ts", `import { Registry } from "../registry/index.ts";`],
    ["a higher row", "src/process/process.ts", `import type { Pool } from "../routing/index.ts";`],
    ["a higher row, as a type", "src/process/process.ts", `let pool: import("../routing/index.ts").Pool;`],
    ["a higher row, later", "src/process/process.ts", `await import("../routing/index.ts");`],
    ["a higher row, re-exported", "src/process/index.ts", `export {\n  a,\n} from "../routing/index.ts";`],
    ["a root file on a higher row", "src/telemetry/events.ts", `import { OptionError } from "../errors.ts";`],
    ["the root entry", "src/fanta/pool.ts", `import { Process } from "../index.ts";`],
    ["the simulation", "src/observer/observer.ts", `import { scenario } from "../sim/index.ts";`],
    ["a protocol from the root entry", "src/index.ts", `export * from "./fanta/index.ts";`],
    ["a folder nobody knows", "src/process/process.ts", `import { twice } from "../elsewhere/index.ts";`],
    ["something outside src", "src/process/process.ts", `import { plan } from "../../test/plan.ts";`],
  ])("would be caught importing %s", (_, path, text) => expect(layers([[path, text]]).wrong).toHaveLength(1));

  test("may point down, or stay in their folder", () =>
    clean(
      layers([
        ["src/registry/registry.ts", `import { Process } from "../process/index.ts";\nimport "./lock.ts";`],
        ["src/sim/simulate.ts", `import { RoutingPool } from "../routing/index.ts";`],
        ["src/sim/replay.ts", `import { FantaPool } from "../fanta/index.ts";`],
        ["src/cli/main.ts", `import { scenario } from "../sim/index.ts";`],
        ["src/errors.ts", `import type { PoolStats } from "./telemetry/index.ts";`],
      ]),
    ));

  test("enter a folder through its index.ts", () => clean(doors(sources)));

  test("would be caught going past an index.ts", () => {
    expect(doors([["src/registry/registry.ts", `import { Exit } from "../process/exit.ts";`]]).wrong).toHaveLength(1);
    expect(doors([["src/index.ts", `export { Exit } from "./process/exit.ts";`]]).wrong).toHaveLength(1);
    expect(doors([["src/fanta/pool.ts", `import "../routing/strategies/index.ts";`]]).wrong).toHaveLength(1);
    expect(doors([["src/routing/pool.ts", `import "./strategies/weighted.ts";`]]).wrong).toHaveLength(1);
  });

  test("may go in and out of a folder inside their own", () =>
    clean(
      doors([
        ["src/routing/index.ts", `export { weighted } from "./strategies/index.ts";`],
        ["src/routing/strategies/weighted.ts", `import { random } from "../strategy.ts";`],
        ["src/routing/strategies/weighted.ts", `import { Dice } from "../../runtime/index.ts";`],
      ]),
    ));

  test("name nothing but Node's own modules besides our files, and its peer where an adapter must", () =>
    clean(strangers(sources)));

  test("may name an optional peer in the cli, where it is loaded when it is needed", () => {
    clean(strangers([["src/cli/picture.ts", `const vega = await import("vega");`]]));
    expect(strangers([["src/cli/picture.ts", `import * as vega from "vega";`]]).wrong).toHaveLength(1);
    expect(strangers([["src/cli/picture.ts", `import "vega";`]]).wrong).toHaveLength(1);
    expect(strangers([["src/sim/simulate.ts", `const vega = await import("vega");`]]).wrong).toHaveLength(1);
  });

  test("would be caught naming a package", () => {
    expect(strangers([["src/adapters/redis.ts", `import Redis from "ioredis";`]]).wrong).toHaveLength(1);
    expect(strangers([["src/adapters/redis.ts", `const { Redis } = await import("ioredis");`]]).wrong).toHaveLength(1);
    expect(strangers([["src/fanta/pool.ts", `import net from "net";`]]).wrong).toHaveLength(1);
    expect(strangers([["src/adapters/redis.ts", `import { Client } from "undici";`]]).wrong).toHaveLength(1);
    expect(strangers([["src/routing/pool.ts", `import { Client } from "undici";`]]).wrong).toHaveLength(1);
    clean(strangers([["src/adapters/http/http1.ts", `import { Client } from "undici";`]]));
  });
});

describe("src", () => {
  test("has only the folders and root files that have a row", () => clean(places(sources)));

  test("would be caught with a folder or a root file that has none", () => {
    expect(places([["src/elsewhere/twice.ts", ""]]).wrong).toHaveLength(1);
    expect(places([["src/elsewhere.ts", ""]]).wrong).toHaveLength(1);
  });

  test("has only re-exports in its index.ts files", () => clean(faces(sources)));

  test("would be caught with code in an index.ts", () => {
    const door = `/** A door. */\nexport { a, type B } from "./a.ts";\nexport type { C } from "./c.ts";\nexport * from "./d.ts";\n`;
    clean(faces([["src/process/index.ts", door]]));
    expect(faces([["src/process/index.ts", `${door}export const now = 1;\n`]]).wrong).toHaveLength(1);
    expect(faces([["src/process/index.ts", `import { a } from "./a.ts";\nexport { a };\n`]]).wrong).toHaveLength(1);
    expect(faces([["src/process/index.ts", "\n"]]).wrong).toHaveLength(1);
  });

  test("opens each file with its story", () => clean(stories(sources)));

  test("would be caught with a file that tells none", () => {
    expect(stories([["src/process/exit.ts", "export const a = 1;\n/** Late. */\n"]]).wrong).toHaveLength(1);
    expect(stories([["src/process/exit.ts", "/** */\nexport const a = 1;\n"]]).wrong).toHaveLength(1);
    clean(stories([["src/cli/main.ts", "#!/usr/bin/env node\n/**\n * The program.\n */\n"]]));
  });

  test("reads clocks, sets timers and rolls dice only in the runtime", () => clean(chance(sources)));

  test.each([
    "const at = Date.now();",
    "const at = new Date();",
    "const at = performance.now();",
    "const all = [...performance.getEntries()];",
    "const at = process.hrtime.bigint();",
    "const roll = Math.random();",
    "const id = crypto.randomUUID();",
    "setTimeout(() => {}, 1);",
    "globalThis.setTimeout(() => {}, 1);",
    "setInterval(() => {}, 1);",
    "setImmediate(() => {});",
    "const signal = AbortSignal.timeout(1);",
    `import { setTimeout as wait } from "node:timers/promises";`,
    `import timers from "node:timers";`,
    `import timers from "timers";`,
    `import { performance as clock } from "node:perf_hooks";`,
    "const message = `at ${Date.now()}`;",
    "const quote = /[`'\"]/; const at = Date.now();",
  ])("would be caught with %s", (text) => {
    expect(chance([["src/queue/queue.ts", text]]).wrong).toHaveLength(1);
    expect(chance([["src/runtime/runtime.ts", text]]).wrong).toEqual([]);
    expect(chance([["src/cli/main.ts", text]]).wrong).toEqual([]);
  });

  test("may give a turn away in sim, and nothing more", () => {
    expect(chance([["src/sim/replay.ts", "setImmediate(() => {});"]]).wrong).toEqual([]);
    expect(chance([["src/sim/replay.ts", "setTimeout(() => {}, 1);"]]).wrong).toHaveLength(1);
    expect(chance([["src/multiplex/writer.ts", "setImmediate(() => {});"]]).wrong).toHaveLength(1);
  });

  test("may speak of clocks in prose, and have methods of those names", () => {
    const text = `/** Not Date.now(). */\nconst why = "no setTimeout here"; // performance\nsocket.setTimeout(0);\n`;
    expect(chance([["src/queue/queue.ts", text]]).wrong).toEqual([]);
  });
});

describe("the package", () => {
  test("needs nothing at run time", () => clean(dependencies(files.filter(([path]) => path === "package.json"))));

  test("would be caught needing something", () => {
    expect(dependencies([["package.json", `{ "dependencies": { "ms": "2.1.3" } }`]]).wrong).toHaveLength(1);
    expect(dependencies([["package.json", `{ "optionalDependencies": { "ms": "2.1.3" } }`]]).wrong).toHaveLength(1);
    expect(dependencies([["package.json", `{ "peerDependencies": { "pg": "8" } }`]]).wrong).toHaveLength(1);
    const optional = `{ "peerDependencies": { "pg": "8" }, "peerDependenciesMeta": { "pg": { "optional": true } } }`;
    clean(dependencies([["package.json", optional]]));
  });

  // Without a build there is nothing to pack; .ci/run looks into the real tarball in any case.
  test.skipIf(!existsSync(posix.join(root, "dist/index.js")))("packs dist and its papers, nothing else", () => {
    const json = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const [tarball] = JSON.parse(json) as [{ files: { path: string }[] }];
    clean(packed(tarball.files.map(({ path }) => path)));
  });

  test("would be caught packing more", () => {
    expect(packed(["package.json", "dist/index.js", "dist/index.d.ts", "README.md", "LICENSE"]).wrong).toEqual([]);
    for (const path of ["src/index.ts", "test/tidy.test.ts", "dist/a.test.js", "dist/a.ts", ".npmrc"]) {
      expect(packed(["package.json", path]).wrong, path).toHaveLength(1);
    }
  });
});

describe("prose", () => {
  const pages = files.filter(([path]) => path.endsWith(".md"));

  test("links to what exists", () => clean(links(pages, (path) => existsSync(posix.join(root, path)))));

  test.each([
    "[a](gone.md)",
    "[a]: ./gone.md",
    `<img src="gone.png">`,
    "[a](/README.md)",
    "[a](#nowhere)",
    "[a](../b.md#nowhere)",
  ])("would be caught with %s", (text) => {
    const pair: File[] = [
      ["docs/a.md", `# Here\n\n${text}\n`],
      ["b.md", "# There\n"],
    ];
    expect(links(pair, (path) => path === "b.md").wrong).toHaveLength(1);
  });

  test("may link to pages, headings, folders and the web, and show links as code", () => {
    const text =
      "## What it's *for*\n[a](../b.md#there), [b](#what-its-for), [c](https://example.org), `[d](gone.md)`\n```\n[e](gone.md)\n```\n";
    const finding = links(
      [
        ["docs/a.md", text],
        ["b.md", "# There\n"],
      ],
      (path) => path === "b.md",
    );
    expect(finding).toEqual({ wrong: [], seen: 2 });
  });

  test("puts nothing off", () => clean(putOff(files)));

  test("would be caught putting something off", () => {
    for (const word of ["TO" + "DO", "FIX" + "ME"]) {
      expect(putOff([["src/queue/queue.ts", `// ${word}: later\n`]]).wrong).toHaveLength(1);
    }
    expect(putOff([["src/queue/queue.ts", "const TODOS = 1;\n"]]).wrong).toEqual([]);
  });
});

function clean({ wrong, seen }: Finding): void {
  expect(wrong).toEqual([]);
  expect(seen, "this rule looked at nothing, so it says nothing").toBeGreaterThan(0);
}

// ── The rules ──────────────────────────────────────────────────────────────────────────────────────────────────────

function layers(given: readonly File[]): Finding {
  return judge(relativeImports(given), ({ from, to, specifier }) => {
    const [importer, target] = [place(from), place(to)];
    if (importer === target) return undefined;
    if (target === "index.ts") return `${from}: ${specifier} is the entry for users; import the folder you need`;
    const [mine, theirs] = [rowOf.get(importer), rowOf.get(target)];
    if (theirs === undefined) return `${from}: ${specifier} has no row`;
    if (mine === undefined) return undefined; // Said once for the folder, by the rule on places.
    return theirs >= mine ? `${from}: ${specifier} does not point down` : undefined;
  });
}

function doors(given: readonly File[]): Finding {
  return judge(relativeImports(given), ({ from, to, specifier }) => {
    // The outermost folder that is entered. Who is in it already, or wants a file that stands next to it, enters none.
    const names = posix.dirname(to).split("/");
    const folders = names.map((_, depth) => names.slice(0, depth + 1).join("/"));
    const entered = folders.find((folder) => !from.startsWith(`${folder}/`));
    if (entered === undefined || to === `${entered}/index.ts`) return undefined;
    return `${from}: ${specifier} goes past ${entered}/index.ts`;
  });
}

function strangers(given: readonly File[]): Finding {
  const all = given.flatMap(([path, text]) => imports(text).map((specifier) => ({ path, text, specifier })));
  return judge(all, ({ path, text, specifier }) => {
    if (specifier.startsWith(".")) return undefined;
    const later = !new RegExp(`(?:from|import)\\s*["']${specifier}["']`).test(withoutComments(text));
    if (later && place(path) === "cli" && optionalPeers.has(specifier)) return undefined;
    if (specifier.startsWith("node:") && isBuiltin(specifier)) return undefined;
    if (peers.some(([folder, peer]) => path.startsWith(folder) && specifier === peer)) return undefined;
    return `${path}: ${specifier} is neither a file of ours nor a node: module`;
  });
}

function places(given: readonly File[]): Finding {
  return judge(given, ([path]) => (rowOf.has(place(path)) ? undefined : `${path}: ${place(path)} has no row`));
}

function faces(given: readonly File[]): Finding {
  const reExport = /\bexport\s+(?:type\s+)?(?:\{[^}]*\}|\*(?:\s+as\s+\w+)?)\s+from\s+"[^"]+";?/g;
  const indexes = given.filter(([path]) => posix.basename(path) === "index.ts");
  return judge(indexes, ([path, text]) => {
    const code = withoutComments(text);
    if (!reExport.test(code)) return `${path}: re-exports nothing`;
    const rest = code.replaceAll(reExport, "").trim();
    return rest === "" ? undefined : `${path}: holds more than re-exports: ${rest.split("\n")[0]}`;
  });
}

function stories(given: readonly File[]): Finding {
  const told = given.filter(([path]) => posix.basename(path) !== "index.ts");
  return judge(told, ([path, text]) => {
    const story = /^(?:#!.*\n)?\/\*\*([\s\S]*?)\*\//.exec(text)?.[1] ?? "";
    return /\w/.test(story) ? undefined : `${path}: does not open with its story`;
  });
}

function chance(given: readonly File[]): Finding {
  return judge(given, ([path, text]) => {
    const folder = place(path);
    if (folder === "runtime" || folder === "cli") return undefined;
    const mayYield = folder === "sim";
    // A method of the same name on an object of ours is another thing; a spread's three dots are no object.
    const globals =
      /(?<![\w$#])(?<!(?:^|[^.])\.)(?:(?:globalThis|global)\s*\??\.\s*)?(?:Date|performance|setTimeout|setInterval|setImmediate)\b/g;
    const members = /\b(?:Math\s*\.\s*random|AbortSignal\s*\.\s*timeout|process\s*\.\s*hrtime)\b/g;
    const dice = /\b(?:randomUUID|randomBytes|randomInt|randomFill|randomFillSync|getRandomValues)\b/g;
    const code = withoutProse(text);
    const found = [globals, members, dice].flatMap((pattern) => code.match(pattern) ?? []);
    const modules = imports(text).filter((specifier) => /^(?:node:)?timers(?:\/|$)/.test(specifier));
    const wrong = [...found, ...modules].filter((word) => !(mayYield && word === "setImmediate"));
    return wrong.length > 0 ? `${path}: ${[...new Set(wrong)].join(", ")}: use the runtime` : undefined;
  });
}

function dependencies(given: readonly File[]): Finding {
  return judge(given, ([path, text]) => {
    const manifest = JSON.parse(text) as Record<string, Record<string, { optional?: boolean } | string> | undefined>;
    const needed = ["dependencies", "optionalDependencies", "bundleDependencies", "bundledDependencies"].filter(
      (field) => manifest[field] !== undefined,
    );
    const required = Object.keys(manifest["peerDependencies"] ?? {}).filter((peer) => {
      const meta = manifest["peerDependenciesMeta"]?.[peer];
      return typeof meta !== "object" || meta.optional !== true;
    });
    const wrong = [...needed, ...required];
    return wrong.length > 0 ? `${path}: ${wrong.join(", ")}` : undefined;
  });
}

function packed(paths: readonly string[]): Finding {
  const wanted = /^(?:dist\/.+\.(?:js|d\.ts|js\.map)|README\.md|LICENSE|CHANGELOG\.md|package\.json)$/;
  return judge(paths, (path) => (wanted.test(path) && !/\.test\./.test(path) ? undefined : `${path}: is packed`));
}

function links(pages: readonly File[], exists: (path: string) => boolean): Finding {
  const prose = new Map(pages.map(([path, text]) => [path, withoutCode(text)]));
  const pattern = /\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)|^\[[^\]]+\]:\s+(\S+)|\b(?:src|href)="([^"]+)"/gm;
  const all = [...prose].flatMap(([page, text]) =>
    [...text.matchAll(pattern)].map(([, inline, reference, html]) => ({
      page,
      link: inline ?? reference ?? html ?? "",
    })),
  );
  const ours = all.filter(({ link }) => !/^[a-z][a-z+.-]*:/i.test(link));
  return judge(ours, ({ page, link }) => {
    const [target = "", anchor] = link.split("#");
    const path = target === "" ? page : posix.join(posix.dirname(page), decodeURI(target));
    if (target.startsWith("/")) return `${page}: ${link} is not relative`;
    if (path !== page && !exists(path)) return `${page}: ${link} leads nowhere`;
    const heads = prose.get(path);
    if (anchor === undefined || heads === undefined || anchors(heads).has(anchor)) return undefined;
    return `${page}: ${link} names no heading`;
  });
}

function putOff(given: readonly File[]): Finding {
  return judge(given, ([path, text]) => {
    const line = text.split("\n").findIndex((each) => /\b(?:TO[D]O|FIX[M]E)\b/.test(each));
    return line < 0 ? undefined : `${path}:${line + 1}: puts something off`;
  });
}

function judge<T>(things: readonly T[], verdict: (thing: T) => string | undefined): Finding {
  return { wrong: things.map(verdict).filter((each) => each !== undefined), seen: things.length };
}

// ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Every text file of the repository that people write, with paths from the root. */
function read(folder: string, under = ""): File[] {
  const made = new Set(["node_modules", "dist", "coverage", "temp", "api", ".git", ".cache", "package-lock.json"]);
  return readdirSync(posix.join(folder, under), { withFileTypes: true }).flatMap((entry): File[] => {
    const path = posix.join(under, entry.name);
    if (made.has(entry.name)) return [];
    if (entry.isDirectory()) return read(folder, path);
    const text = /\.(?:ts|mjs|md|json|html|css|yml)$/.test(entry.name) || under === ".ci";
    return text && entry.isFile() ? [[path, readFileSync(posix.join(folder, path), "utf8")]] : [];
  });
}

/** "src/queue/queue.ts" is in "queue", "src/errors.ts" is its own place, and what is not in src has none. */
function place(path: string): string {
  return path.startsWith("src/") ? (path.split("/")[1] ?? "") : path;
}

function relativeImports(given: readonly File[]): { from: string; to: string; specifier: string }[] {
  return given.flatMap(([from, text]) =>
    imports(text)
      .filter((specifier) => specifier.startsWith("."))
      .map((specifier) => ({ from, to: posix.join(posix.dirname(from), specifier), specifier })),
  );
}

/** What a file imports, in whatever way: static, for its types, for its effects, dynamic, or to hand on. */
function imports(text: string): string[] {
  const pattern = /\b(?:import|export)\b[^;"'`]*?\bfrom\s*["']([^"']+)["']|\bimport\s*\(?\s*["']([^"']+)["']/g;
  return [...withoutComments(text).matchAll(pattern)].map(([, from, bare]) => from ?? bare ?? "");
}

const lexemes =
  /(?<comment>\/\*[\s\S]*?\*\/|\/\/[^\n]*)|(?<template>`(?:\\[\s\S]|[^`\\])*`)|(?<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?<regex>(?<=(?:[(,=:[!&|?{};>]|\breturn)\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/\w*)/g;

function withoutComments(text: string): string {
  return text.replace(lexemes, (lexeme: string) => (/^\/[/*]/.test(lexeme) ? " " : lexeme));
}

/** The code alone. Of a template, what it computes. */
function withoutProse(text: string): string {
  return text.replace(lexemes, (lexeme: string) => {
    if (!lexeme.startsWith("`")) return " ";
    return [...lexeme.matchAll(/\$\{([^}]*)/g)].map(([, computed = ""]) => ` ${computed} `).join("");
  });
}

function withoutCode(markdown: string): string {
  return markdown.replace(/^(```|~~~)[\s\S]*?^\1/gm, "").replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]<>]/g, ""));
}

/** The anchors that a page's headings get where such pages are usually read. */
function anchors(markdown: string): Set<string> {
  const headings = [...markdown.matchAll(/^#{1,6}\s+(.+?)\s*#*$/gm)].map(([, heading = ""]) => heading);
  const slugs = headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replace(/\s/g, "-"),
  );
  // A heading that comes twice gets a number the second time.
  return new Set(
    slugs
      .map((slug, at) => [slug, slugs.slice(0, at).filter((each) => each === slug).length] as const)
      .map(([slug, before]) => (before === 0 ? slug : `${slug}-${before}`)),
  );
}
