/** What goes into a request over HTTP/2, from all the forms in which undici takes it, and what undici would refuse. */

import { errors } from "undici";
import { describe, expect, test } from "vitest";
import { Http2Fields, requestHeaders } from "../../src/adapters/http/headers.ts";
import type { HttpRequest } from "../../src/adapters/http/request.ts";

function made(request: object): object {
  return requestHeaders({ method: "GET", path: "/", ...request } as HttpRequest, "http", "api.test");
}

const pseudo = { ":method": "GET", ":scheme": "http", ":authority": "api.test", ":path": "/" };

describe("a request", () => {
  test.each<[string, object, object]>([
    ["without headers", {}, pseudo],
    ["with null for headers", { headers: null }, pseudo],
    ["with an object of headers", { headers: { "X-A": "1", b: ["2", "3"] } }, { ...pseudo, "x-a": "1", b: ["2", "3"] }],
    ["with a flat list", { headers: ["a", "1", "A", "2"] }, { ...pseudo, a: ["1", "2"] }],
    ["with an iterable of pairs", { headers: new Map([["a", "1"]]) }, { ...pseudo, a: "1" }],
    ["with values that are no text", { headers: { a: 1, b: true, c: null } }, { ...pseudo, a: "1", b: "true", c: "" }],
    ["with a header that is undefined", { headers: { a: undefined } }, pseudo],
    ["with headers of a connection's own", { headers: { connection: "close" } }, pseudo],
    ["with a host", { headers: { host: "other.test" } }, { ...pseudo, ":authority": "other.test" }],
    ["that expects a go-ahead", { expectContinue: true }, { ...pseudo, expect: "100-continue" }],
    ["with an absolute path", { path: "http://api.test/a?b" }, { ...pseudo, ":path": "/a?b" }],
    ["with an origin for a path", { path: "https://api.test" }, { ...pseudo, ":path": "/" }],
    ["with a query", { query: { a: 1, b: "x y" } }, { ...pseudo, ":path": "/?a=1&b=x%20y" }],
    ["with a query of nothing", { query: {} }, pseudo],
  ])("%s is told so", (_, request, expected) => {
    expect({ ...made(request) }).toEqual(expected);
  });

  test.each<[string, object]>([
    ["a method that is none", { method: "GE T" }],
    ["a method that is no text", { method: 7 }],
    ["a path that is no text", { path: 7 }],
    ["a path with a space", { path: "/a b" }],
    ["a path that begins nowhere", { path: "a" }],
    ["headers that are text", { headers: "a: 1" }],
    ["a list of headers that is odd", { headers: ["a"] }],
    ["pairs that are none", { headers: new Set(["a"]) }],
    ["a name that is none", { headers: { "a b": "1" } }],
    ["a value with a line in it", { headers: { a: "1\r\nb: 2" } }],
    ["a value that is an object", { headers: { a: {} } }],
    ["a host that is no text", { headers: { host: ["a", "b"] } }],
    ["a header of HTTP/1.1 alone", { headers: { "transfer-encoding": "chunked" } }],
  ])("with %s is refused as undici refuses it", (_, request) => {
    expect(() => made(request)).toThrow(errors.InvalidArgumentError);
  });

  test("that asks for what is not supported, or twice for a query, is refused, too", () => {
    expect(() => made({ headers: { expect: "100-continue" } })).toThrow(errors.NotSupportedError);
    expect(() => made({ path: "/?a", query: { b: 1 } })).toThrow("Query params");
  });
});

test("the fields of a response are given raw and parsed, without what is HTTP/2's own", () => {
  const fields = new Http2Fields([":status", "200", "a", "1", "b", "2", "a", "3", "a", "4", "__proto__", "5"]);
  const expected = Object.fromEntries([
    ["a", ["1", "3", "4"]],
    ["b", "2"],
  ]);
  const parsed = fields.parsed();
  expect(Object.keys(parsed)).toEqual(["a", "b", "__proto__"]);
  expect({ a: parsed["a"], b: parsed["b"] }).toEqual(expected);
  expect(fields.raw().map(String)).toEqual(["a", "1", "b", "2", "a", "3", "a", "4", "__proto__", "5"]);
});

test("names are sent in small letters and told as they came, however many there have been", () => {
  const names = Array.from({ length: 1_100 }, (_, n) => `X-${n}`);
  for (let time = 0; time < 2; time++) {
    const sent = made({ headers: names.flatMap((name) => [name, "1"]) });
    expect(Object.keys(sent).slice(4)).toEqual(names.map((name) => name.toLowerCase()));
    const told = new Http2Fields(names.flatMap((name) => [name, "1"])).raw();
    expect(told.map(String)).toEqual(names.flatMap((name) => [name, "1"]));
  }
});
