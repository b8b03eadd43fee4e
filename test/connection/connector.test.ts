/** What is refused before a connection is ever made. */

import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { checkConnector as check, checkEndpoints, type Connector, type Endpoint } from "../../src/connection/index.ts";

const connector = { name: "fake", open: async () => "socket" };
const checkConnector = (given: unknown): void => check("here", given as Connector<never>);

describe("a connector", () => {
  test("needs a name and a way to open", () => {
    expect(() => checkConnector(connector)).not.toThrow();
    expect(() => checkConnector({ open: connector.open })).toThrow(/name/);
    expect(() => checkConnector({ name: "" })).toThrow(/name/);
    expect(() => checkConnector({ name: "fake" })).toThrow(/open/);
  });

  test.each(["close", "check", "reset", "capacity", "isFailure", "isFatal"])(
    "has for %s a function or nothing",
    (hook) => {
      const wrong = { ...connector, [hook]: "a word" };
      expect(() => checkConnector(wrong)).toThrow(expect.objectContaining({ code: "ERR_OPTION" }));
      expect(() => checkConnector({ ...connector, [hook]: undefined })).not.toThrow();
    },
  );

  test("has for endpoints an array or an async iterable, or nothing", () => {
    for (const endpoints of ["localhost", 7, {}, new Set(["a"]), null]) {
      const wrong = { ...connector, endpoints };
      expect(() => checkConnector(wrong), inspect(endpoints)).toThrow(/endpoints/);
    }
  });

  test("may be a class with fields of its own", () => {
    class Fake {
      readonly name = "fake";
      readonly sockets = 7;
      open(): Promise<never> {
        return Promise.reject(new Error("no"));
      }
    }
    expect(() => checkConnector(new Fake())).not.toThrow();
  });
});

describe("endpoints", () => {
  test("are one of each id, the first", () => {
    const [a, b, again] = [{ id: "a" }, { id: "b" }, { id: "a", weight: 2 }];
    expect(checkEndpoints("here", [a, b, again])).toEqual([a, b]);
  });

  test.each([
    [[{ id: "" }], "id"],
    [[{ id: 7 }], "id"],
    [[{ id: "a" }, null], "id"],
    [["a"], "id"],
    [[{ id: "a", weight: 0 }], "weight"],
    [[{ id: "a", weight: -1 }], "weight"],
    [[{ id: "a", weight: Infinity }], "weight"],
    [[{ id: "a", weight: Number.NaN }], "weight"],
  ])("that are wrong are refused by place and field: %j", (endpoints, field) => {
    const check = (): unknown => checkEndpoints("here", endpoints as Endpoint[]);
    expect(check).toThrow(expect.objectContaining({ code: "ERR_OPTION" }));
    expect(check).toThrow(`here[${endpoints.length - 1}]: ${field}`);
  });
});
