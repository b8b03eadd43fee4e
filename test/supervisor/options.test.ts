import { describe, expect, test } from "vitest";
import { DynamicSupervisor, Supervisor } from "../../src/supervisor/index.ts";
import { stage, standing } from "./workers.ts";

/** What JavaScript may hand over and TypeScript would not. */
const anything = (value: unknown): never => value as never;

describe("a child spec", () => {
  const wrong: [field: string, value: unknown][] = [
    ["id", undefined],
    ["id", ""],
    ["id", 7],
    ["start", undefined],
    ["start", { module: "no function" }],
    ["restart", "always"],
    ["shutdown", -1],
    ["shutdown", Number.NaN],
    ["shutdown", Infinity],
    ["shutdown", "brutal"],
    ["type", "process"],
    ["significant", "yes"],
  ];
  for (const [field, value] of wrong) {
    test(
      `with ${field} ${JSON.stringify(value) ?? "missing"} is refused by name, and nobody is started`,
      stage(async (s) => {
        const spec = anything({ ...s.worker("b"), [field]: value });
        const error = { code: "ERR_OPTION", option: `Supervisor.start: children[1]: ${field}`, got: value };
        await expect(s.supervise([s.worker("a"), spec])).rejects.toMatchObject(error);
        const supervisor = await s.supervise([]);
        const added = { code: "ERR_OPTION", option: `Supervisor.startChild: ${field}` };
        await expect(supervisor.startChild(spec)).rejects.toMatchObject(added);
        expect(standing(supervisor)).toEqual([]);
        expect(s.diary()).toEqual([]);
      }),
    );
  }

  test(
    "that is no object is refused",
    stage(async (s) => {
      const supervisor = await s.supervise([]);
      for (const spec of [null, undefined, "a"]) {
        await expect(s.supervise([anything(spec)])).rejects.toMatchObject({ code: "ERR_OPTION" });
        await expect(supervisor.startChild(anything(spec))).rejects.toMatchObject({ code: "ERR_OPTION" });
      }
    }),
  );

  test(
    "with the id of another is refused, and nobody is started",
    stage(async (s) => {
      const twice = s.supervise([s.worker("a"), s.worker("b"), s.worker("a")]);
      await expect(twice).rejects.toMatchObject({ code: "ERR_OPTION", option: "Supervisor.start: children[2]: id" });
      expect(s.diary()).toEqual([]);
    }),
  );

  test(
    "may have fields that nobody knows",
    stage(async (s) => {
      const spec = { ...s.worker("a"), modules: ["a"], note: "mine" };
      expect(standing(await s.supervise([spec]))).toEqual(["a up"]);
    }),
  );

  test(
    "may be significant only under an autoShutdown, and never when permanent",
    stage(async (s) => {
      const one = s.worker("a", { significant: true, restart: "transient" });
      const permanent = s.worker("b", { significant: true });
      const refused = { code: "ERR_OPTION", option: "Supervisor.start: children[0]: significant" };
      await expect(s.supervise([one])).rejects.toMatchObject(refused);
      await expect(s.supervise([one], { autoShutdown: "never" })).rejects.toMatchObject(refused);
      await expect(s.supervise([permanent], { autoShutdown: "any_significant" })).rejects.toMatchObject(refused);
      expect(standing(await s.supervise([one], { autoShutdown: "any_significant" }))).toEqual(["a up"]);
      const never = await s.supervise([]);
      await expect(never.startChild(one)).rejects.toMatchObject({ option: "Supervisor.startChild: significant" });
    }),
  );
});

describe("the options", () => {
  const wrong: [option: string, value: unknown][] = [
    ["strategy", undefined],
    ["strategy", "simple_one_for_one"],
    ["maxRestarts", -1],
    ["maxRestarts", 1.5],
    ["maxRestarts", Infinity],
    ["maxRestarts", "3"],
    ["maxSeconds", 0],
    ["maxSeconds", 0.5],
    ["maxSeconds", Infinity],
    ["autoShutdown", "always"],
    ["restartBackoff", true],
    ["name", ""],
    ["runtime", {}],
    ["intensity", 3],
  ];
  for (const [option, value] of wrong) {
    test(
      `with ${option} ${String(value)} are refused by name, and nobody is started`,
      stage(async (s) => {
        const starting = s.supervise([s.worker("a")], { [option]: value });
        await expect(starting).rejects.toMatchObject({ code: "ERR_OPTION", option: `Supervisor.start: ${option}` });
        expect(s.diary()).toEqual([]);
      }),
    );
  }

  test(
    "of a backoff are checked with the others",
    stage(async (s) => {
      const starting = s.supervise([], { restartBackoff: { minMs: 10, maxMs: 5 } });
      await expect(starting).rejects.toMatchObject({ option: "Supervisor.start: restartBackoff: minMs" });
    }),
  );

  for (const [option, value] of [...wrong.filter(([name]) => name !== "strategy"), ["maxChildren", -1] as const]) {
    if (option === "autoShutdown" || option === "intensity") continue;
    test(
      `of a dynamic supervisor with ${option} ${String(value)} are refused by name`,
      stage(async (s) => {
        const refused = { code: "ERR_OPTION", option: `DynamicSupervisor.start: ${option}` };
        await expect(s.dynamic({ [option]: value })).rejects.toMatchObject(refused);
      }),
    );
  }

  test(
    "of a dynamic supervisor have neither a strategy nor an autoShutdown",
    stage(async (s) => {
      await expect(s.dynamic(anything({ strategy: "one_for_all" }))).rejects.toMatchObject({ code: "ERR_OPTION" });
      await expect(s.dynamic(anything({ autoShutdown: "any_significant" }))).rejects.toMatchObject({
        code: "ERR_OPTION",
      });
    }),
  );

  test(
    "may be spelt out as undefined, which means the default",
    stage(async (s) => {
      const options = { maxRestarts: undefined, maxSeconds: undefined, autoShutdown: undefined, name: undefined };
      const supervisor = await s.supervise([s.worker("a")], anything(options));
      await s.crashed("a");
      expect(supervisor.process.alive).toBe(true);
    }),
  );
});

test(
  "every call that is nonsense rejects, and none throws",
  stage(async (s) => {
    const supervisor = await s.supervise([]);
    const dynamic = await s.dynamic();
    for (const nonsense of [anything(undefined), anything(null), anything(0), anything("x"), anything(Symbol("x"))]) {
      const calls: (() => Promise<unknown>)[] = [
        () => Supervisor.start(nonsense, { strategy: "one_for_one" }),
        () => Supervisor.start([], nonsense),
        () => DynamicSupervisor.start(nonsense === undefined ? anything(null) : nonsense),
        () => supervisor.startChild(nonsense),
        () => supervisor.terminateChild(nonsense),
        () => supervisor.restartChild(nonsense),
        () => supervisor.deleteChild(nonsense),
        () => supervisor.stop({ timeoutMs: -1 }),
        () => supervisor.stop({ reason: anything("because") }),
        () => supervisor.stop(nonsense === undefined ? anything(null) : nonsense),
        () => dynamic.startChild(nonsense),
        () => dynamic.terminateChild(nonsense),
        () => dynamic.stop({ timeoutMs: Number.NaN }),
      ];
      for (const call of calls) {
        const expected = { code: expect.stringMatching(/^ERR_(OPTION|SUPERVISOR_NOT_FOUND)$/) };
        await expect(call(), String(call)).rejects.toMatchObject(expected);
      }
    }
    expect(supervisor.process.alive && dynamic.process.alive).toBe(true);
  }),
);
